"""This machine as a Machine: statuses, streams, time-outs, and nothing left running."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llamatop.errors import NodeError, ProtocolFault, Unreachable
from llamatop.model.plan import Command
from llamatop.transport import local
from llamatop.transport.local import LocalMachine


@pytest.fixture
async def machine() -> AsyncIterator[LocalMachine]:
    machine = LocalMachine("here")
    yield machine
    await machine.close()


def shell(script: str) -> Command:
    return Command(("sh", "-c", script))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return not alive(pid)


async def test_run_gives_status_and_both_streams(machine: LocalMachine) -> None:
    done = await machine.run(shell("cat; echo oops >&2; exit 3"), b"in\0put\xff")
    assert (done.status, done.stdout, done.stderr) == (3, b"in\0put\xff", b"oops\n")


async def test_a_signal_is_minus_one_and_a_missing_program_127(machine: LocalMachine) -> None:
    assert (await machine.run(shell("kill -9 $$"))).status == -1
    missing = await machine.run(Command(("no-such-program-here",)))
    assert missing.status == 127
    assert b"no-such-program-here" in missing.stderr


@pytest.mark.parametrize("text", ["$(id)", "a b", "'", '"', "\\", "", "*", "-n\n", "é\udcff"])
async def test_arguments_arrive_as_they_are(machine: LocalMachine, text: str) -> None:
    done = await machine.run(Command(("printf", "%s", text)))
    assert done.stdout == os.fsencode(text)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_what_no_command_can_hold_is_refused(machine: LocalMachine, text: str) -> None:
    with pytest.raises(NodeError, match="here: a command holds"):
        await machine.run(Command(("printf", text)))


async def test_large_input_and_output_pass_at_once(machine: LocalMachine) -> None:
    data = os.urandom(8 * 2**20)
    done = await machine.run(Command(("cat",)), data)
    assert done.stdout == data


async def test_a_program_that_ignores_its_input_is_no_error(machine: LocalMachine) -> None:
    done = await machine.run(Command(("true",)), b"x" * 2**20)
    assert done.status == 0


async def test_time_out_kills_the_whole_group(
    machine: LocalMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamatop.transport.local.HANG_UP_GRACE_SECONDS", 0.1)
    pids = tmp_path / "pids"
    script = f"trap '' HUP; echo $$ >{pids}; sleep 100 & echo $! >>{pids}; wait"
    with pytest.raises(Unreachable, match=r"did not end within 0\.3 s"):
        await machine.run(shell(script), timeout_seconds=0.3)
    for pid in pids.read_text().split():
        assert await ended(int(pid))


async def test_cancel_kills_it(machine: LocalMachine, tmp_path: Path) -> None:
    channel = await machine.open(shell("echo $$; exec sleep 100"))
    pid = int(await channel.readline())
    await channel.close()
    assert await ended(pid)
    task = asyncio.create_task(machine.run(shell(f"echo $$ >{tmp_path}/pid; exec sleep 100")))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ended(int((tmp_path / "pid").read_text()))


async def test_closing_the_machine_ends_what_is_open(machine: LocalMachine) -> None:
    channel = await machine.open(shell("echo $$; exec sleep 100"))
    pid = int(await channel.readline())
    await machine.close()
    await machine.close()
    assert await ended(pid)


async def test_lines_both_ways(machine: LocalMachine) -> None:
    channel = await machine.open(Command(("cat",)))
    await channel.write(b"one\ntw")
    assert await channel.readline() == b"one\n"
    await channel.write(b"o\nrest")
    assert await channel.readline() == b"two\n"
    await channel.write_eof()
    assert await channel.readline() == b"rest"
    assert await channel.readline() == b""
    assert (await channel.wait()).status == 0
    await channel.close()
    with pytest.raises(Unreachable):
        await channel.write(b"late")


async def test_a_line_without_end_is_a_fault(machine: LocalMachine) -> None:
    channel = await machine.open(shell("tr '\\0' x </dev/zero"))
    with pytest.raises(ProtocolFault, match="more than 100000 bytes"):
        await channel.readline(limit=100_000)
    await channel.close()


async def test_stderr_keeps_its_tail_and_never_blocks(machine: LocalMachine) -> None:
    done = await machine.run(shell("head -c 1000000 /dev/zero >&2; echo last >&2"))
    assert len(done.stderr) == 64 * 1024
    assert done.stderr.endswith(b"last\n")


@pytest.mark.parametrize(
    "script", ["yes | head -c 3000000; sleep 100", "trap '' HUP; echo; sleep 100"]
)
def test_closing_leaves_nothing_for_the_garbage_collector(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "HANG_UP_GRACE_SECONDS", 0.1)
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    async def work() -> None:
        machine = LocalMachine("here")
        channel = await machine.open(shell(script))
        await channel.readline()
        await machine.close()

    for _ in range(3):
        asyncio.run(work())
        gc.collect()
    assert not said

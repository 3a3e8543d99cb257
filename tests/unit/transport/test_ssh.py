"""A machine behind a real sshd: programs, streams, cuts and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llamatop.errors import ProtocolFault, Unreachable
from llamatop.model.declared import Cluster, Node
from llamatop.model.plan import Command
from llamatop.transport import ssh
from llamatop.transport.machines import Machines

from .conftest import World
from .sshd import silent_port
from .test_local import ended, shell

pytestmark = pytest.mark.slow


async def longest_gap(stop: asyncio.Event) -> float:
    """The longest time for which the event loop did nothing else, until `stop`."""
    longest, last = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


async def test_run_gives_status_and_both_streams(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    done = await machine.run(shell("cat; echo oops >&2; exit 3"), b"in\0put\xff")
    assert (done.status, done.stdout, done.stderr) == (3, b"in\0put\xff", b"oops\n")
    assert (await machine.run(shell("kill -9 $$"))).status == -1
    assert (await machine.run(Command(("no-such-program",)))).status == 127
    for text in ["$(id)", "a b", "'", '"', "\\", "", "*", "-n\n", "é\udcff"]:
        assert (await machine.run(Command(("printf", "%s", text)))).stdout == os.fsencode(text)


async def test_everything_shares_one_connection_and_one_thread(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    before = threading.active_count()
    ten = await asyncio.gather(*(machine.run(Command(("echo", str(n)))) for n in range(8)))
    assert [done.stdout for done in ten] == [b"%d\n" % n for n in range(8)]
    assert world.servers["node1"].log.count("Accepted publickey") == 1
    channel = await machine.open(Command(("cat",)))
    await channel.write(b"x\n")
    assert await channel.readline() == b"x\n"
    assert threading.active_count() == before + 1
    await machine.close()
    with pytest.raises(Unreachable):
        await channel.readline()


async def test_a_connection_begun_ahead_is_the_one_that_is_used(world: World) -> None:
    world.server("node1")
    nodes = (Node("n", ssh="node1"), Node("here", ssh="local"), Node("edge", url="http://e"))
    machines = Machines(Cluster("c", nodes), ssh_config=world.config, known_hosts=world.known_hosts)
    for node in nodes:
        machines.begin(node.name)
    async with asyncio.timeout(30):
        while "Accepted publickey" not in world.servers["node1"].log:
            await asyncio.sleep(0.02)
    assert (await machines.machine("n").run(Command(("echo", "x")))).stdout == b"x\n"
    assert world.servers["node1"].log.count("Accepted publickey") == 1
    await machines.close()


async def test_what_goes_wrong_with_a_connection_begun_ahead_is_told_its_user(
    world: World,
) -> None:
    world.host("nowhere", "HostName no-such-host.invalid")
    machine = world.machine("nowhere")
    machine.begin()
    with pytest.raises(Unreachable, match="does not resolve"):
        await machine.run(Command(("true",)))


async def test_a_connection_that_failed_ahead_is_told_once_and_not_made_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()
    attempts: list[str] = []
    loop = asyncio.get_running_loop()

    def refuse(node: str, *_: object) -> None:
        attempts.append(node)
        loop.call_soon_threadsafe(tried.set)
        raise Unreachable(node, "it takes nobody")

    monkeypatch.setattr(ssh, "connect", refuse)
    world.host("node1", "HostName 127.0.0.1")
    machine = world.machine("node1")
    machine.begin()
    await tried.wait()
    for _ in range(20):
        await asyncio.sleep(0.01)
    with pytest.raises(Unreachable, match="it takes nobody"):
        await machine.run(Command(("true",)))
    assert len(attempts) == 1
    with pytest.raises(Unreachable, match="it takes nobody"):
        await machine.run(Command(("true",)))
    assert len(attempts) == 2


async def test_to_begin_again_leaves_a_connection_alone(world: World) -> None:
    server = world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(Command(("cat",)))
    machine.begin()
    assert (await machine.run(Command(("echo", "x")))).stdout == b"x\n"
    await channel.write(b"y\n")
    assert await channel.readline() == b"y\n"
    assert server.log.count("Accepted publickey") == 1


async def test_large_streams_pass(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    data = os.urandom(4 * 2**20)
    assert (await machine.run(Command(("cat",)), data)).stdout == data
    done = await machine.run(shell("head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2"))
    assert (done.status, len(done.stdout), len(done.stderr)) == (0, 20_000_000, 65536)


async def test_lines_both_ways(world: World) -> None:
    world.server("node1")
    channel = await world.machine("node1").open(Command(("cat",)))
    await channel.write(b"one\ntw")
    assert await channel.readline() == b"one\n"
    await channel.write(b"o\nrest")
    assert await channel.readline() == b"two\n"
    await channel.write_eof()
    assert await channel.readline() == b"rest"
    assert await channel.readline() == b""
    assert (await channel.wait()).status == 0
    with pytest.raises(Unreachable):
        await channel.write(b"late")
    await channel.close()
    await channel.close()


async def test_a_program_that_does_not_read_blocks_nobody(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    stop = asyncio.Event()
    gap = asyncio.create_task(longest_gap(stop))
    with pytest.raises(Unreachable, match=r"node1: `sleep 30` did not end within 1 s"):
        await machine.run(Command(("sleep", "30")), b"x" * 2**23, timeout_seconds=1)
    assert (await machine.run(Command(("true",)), b"x" * 2**22)).status == 0
    stop.set()
    assert await gap < 0.8, "a write that waits would have waited for all of the time-out"


async def test_an_unread_program_is_held_back(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    script = "i=0; while :; do i=$((i+1)); printf '%01000d\\n' $i; echo $i >counter; done"
    channel = await machine.open(shell(f"cd {world.root}; {script}"))
    counts: list[int] = []
    while len(counts) < 3 or counts[-1] != counts[-3]:
        await asyncio.sleep(0.15)
        counter = world.root / "counter"
        counts.append(int(counter.read_text() or "0") if counter.exists() else -len(counts))
    assert counts[-1] < 4000, "more than the window and the pipe hold"
    for number in range(1, 1001):
        assert int(await channel.readline()) == number
    await channel.close()


async def test_a_line_without_end_is_a_fault(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(shell("tr '\\0' x </dev/zero"))
    with pytest.raises(ProtocolFault, match=r"node1: .* more than 100000 bytes"):
        await channel.readline(limit=100_000)
    await channel.close()
    assert (await machine.run(Command(("true",)))).status == 0


async def test_closing_and_cancelling_end_the_program(world: World) -> None:
    """By end of file and broken pipe; where one does not log in as root by SIGHUP as well."""
    server = world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(shell("echo $$; exec cat"))
    pid = int(await channel.readline())
    await channel.close()
    assert await ended(pid)
    assert "session 0 req signal" in server.log
    file = world.root / "pid"
    talking = f"echo $$ >{file}; while :; do echo x; sleep 0.05; done"
    task = asyncio.create_task(machine.run(shell(talking)))
    while not file.exists() or not file.read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ended(int(file.read_text()))


async def test_a_cut_ends_everything_and_the_next_use_connects_again(world: World) -> None:
    server = world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(shell("echo up; exec sleep 100"))
    assert await channel.readline() == b"up\n"
    running = asyncio.create_task(machine.run(Command(("sleep", "100"))))
    reading = asyncio.create_task(channel.readline())
    while server.log.count("Starting session: command") < 2:
        await asyncio.sleep(0.02)
    server.cut()
    for task in (running, reading):
        with pytest.raises(Unreachable, match="node1: the connection was cut"):
            await asyncio.wait_for(task, 2)
    with pytest.raises(Unreachable, match="node1: the connection was cut"):
        await channel.write(b"x")
    with pytest.raises(Unreachable):
        await channel.wait()
    await channel.close()
    assert (await machine.run(Command(("echo", "again")))).stdout == b"again\n"
    assert server.log.count("Accepted publickey") == 2


async def test_a_silent_peer_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamatop.transport.ssh.ALIVE_SECONDS", 0.1)
    server = world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(Command(("cat",)))
    await asyncio.sleep(0.6)
    await channel.write(b"x\n")
    assert await channel.readline() == b"x\n", "an idle but living connection must stay"
    stopped = server.descendants()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Unreachable, match="no answer for"):
        await asyncio.wait_for(channel.readline(), 3)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert (await machine.run(Command(("true",)))).status == 0


async def test_sessions_that_sshd_forbids_are_said(world: World) -> None:
    world.server("node1", extra="MaxSessions 1")
    machine = world.machine("node1")
    channel = await machine.open(Command(("cat",)))
    with pytest.raises(Unreachable, match=r"node1: sshd there opens no further session.*MaxSess"):
        await machine.run(Command(("true",)))
    await channel.close()


async def test_more_programs_than_sshd_has_sessions_take_turns(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    many = await asyncio.gather(*(machine.run(Command(("echo", str(n)))) for n in range(24)))
    assert [done.stdout for done in many] == [b"%d\n" % n for n in range(24)]


async def test_programs_that_end_while_their_input_is_closed_do_not_cut_the_connection(
    world: World,
) -> None:
    world.server("node1")
    machine = world.machine("node1")
    for _ in range(40):
        every = await asyncio.gather(*(machine.run(Command(("true",))) for _ in range(10)))
        assert {done.status for done in every} == {0}
    assert world.servers["node1"].log.count("Accepted publickey") == 1


async def test_close_while_connecting_ends_the_wait(world: World) -> None:
    with silent_port() as port:
        world.host("mute", "HostName 127.0.0.1", f"Port {port}", "ConnectTimeout 120")
        machine = world.machine("mute")
        waiting = asyncio.create_task(machine.run(Command(("true",))))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await machine.close()
        with pytest.raises(Unreachable, match="closed here"):
            await waiting
        again = asyncio.create_task(machine.run(Command(("true",))))
        await asyncio.sleep(0.2)
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
        await machine.close()
        assert time.monotonic() - started < 10
    while any(thread.name == "llamatop-ssh" for thread in threading.enumerate()):
        await asyncio.sleep(0.02)


def test_leaving_does_not_wait_and_paramiko_stays_quiet(tmp_path: Path) -> None:
    """As a whole program: a host that says nothing neither holds up the exit nor prints."""
    script = """
import asyncio, sys
from pathlib import Path
from llamatop.errors import Unreachable
from llamatop.model.plan import Command
from llamatop.transport.ssh import SshMachine

async def main():
    machines = [SshMachine(n, n, ssh_config=Path(sys.argv[1])) for n in ("mute", "web", "none")]
    tasks = [asyncio.create_task(m.run(Command(("true",)))) for m in machines]
    for task in tasks[1:]:
        try:
            await task
        except Unreachable as error:
            print(error)
asyncio.run(main())
"""
    with silent_port() as port, silent_port(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        config = tmp_path / "config"
        config.write_text(
            f"Host *\n HostName 127.0.0.1\nHost mute\n Port {port}\n ConnectTimeout 120\n"
            f"Host web\n Port {web}\nHost none\n Port 1\n"
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", script, config], capture_output=True, text=True, timeout=60
        )
    assert time.monotonic() - started < 30
    assert done.stderr == ""
    assert done.stdout.count("\n") == 2
    assert "does not speak ssh (it says 'HTTP/1.1 400 Bad Request')" in done.stdout
    assert "127.0.0.1:1 refuses the connection" in done.stdout


async def test_the_shell_uses_the_same_files(world: World) -> None:
    world.server("node1")
    world.server("node2", "ProxyJump node1")
    world.server("node3", "ProxyJump node2")
    for name in ("node1", "node3"):
        argv = world.machine(name).shell_argv()
        assert "-t" in argv
        argv.insert(1, "-oBatchMode=yes")
        done = await asyncio.to_thread(subprocess.run, [*argv, "echo here"], capture_output=True)
        assert (done.returncode, done.stdout) == (0, b"here\n"), done.stderr

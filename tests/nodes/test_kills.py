"""llamatop killed with SIGKILL at every step of a plan, on real machines: nothing is lost by it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamatop.collect import leftovers
from llamatop.model.plan import Action
from llamatop.probe.drains import LEASE_SECONDS
from tests.nodes.cluster import Cluster
from tests.nodes.load import Load
from tests.nodes.machine import Machine
from tests.nodes.test_operate import CONF, MEMBER, Console, console
from tests.nodes.test_roll import WORKER, down, settled, starts, steps_of

ADDRESS = MEMBER[WORKER]
OTHER = "node1/gpu0"
FOLDER, NAME = CONF.rsplit("/", 1)
SECONDS = 90.0


def kill_when(words: list[str], condition: Callable[[str], object]) -> str:
    """Run llamatop on a terminal and SIGKILL it once what it said is so; returns what it said."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llamatop.cli.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    said = b""
    deadline = time.monotonic() + SECONDS
    try:
        while not condition(said.decode(errors="replace")):
            assert select.select([master], [], [], max(deadline - time.monotonic(), 0))[0], said
            said += os.read(master, 65536)
    except OSError:
        pytest.fail(f"it ended before that: {said.decode(errors='replace')}")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == -signal.SIGKILL, said
    return said.decode(errors="replace")


def at_step(number: int, lines: int) -> Callable[[str], object]:
    """Whether so many lines of a step are on the terminal: 1 as it begins, 2 just after."""
    line = re.compile(rf"[…✓✗] (?:\[[^]]*\] )?{number}\. ")
    return lambda said: len(line.findall(said)) >= lines


def records(node: Machine) -> dict[Path, list[dict[str, Any]]]:
    """What users have written down on the balancer, by file."""
    files = (node.root / "var/tmp").glob("llamatop-drains-*.jsonl")
    return {file: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def later(node: Machine) -> None:
    """Let the leases in the users' records run out."""
    for file, lines in records(node).items():
        for line in lines:
            line["at"] -= LEASE_SECONDS
        owner = file.stat()
        aged = file.with_name("aged")
        aged.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.chown(aged, owner.st_uid, owner.st_gid)
        aged.chmod(0o644)
        aged.rename(file)


def meant(node: Machine, action: Action) -> bool:
    """Whether WORKER is out on purpose: the drain that took it out said that it had ended."""
    lines = [line for lines in records(node).values() for line in lines]
    outs = [line for line in lines if line["event"] == "out" and ADDRESS in str(line["members"])]
    plan = max(outs, key=lambda line: float(line["at"]))["plan"]
    ended = any(line["event"] == "ended" and line["plan"] == plan for line in lines)
    return ended and action != "roll"


async def told_left(at: Console, since: datetime) -> str:
    """What llamatop tells since then of what was left drained, once it does."""
    async with asyncio.timeout(60), aclosing(at.collector.snapshots()) as snapshots:
        async for snapshot in snapshots:
            for event in snapshot.events:
                if event.at >= since and " was left drained by " in event.text:
                    return event.text
    raise AssertionError


async def put_right(at: Console, cluster: Cluster, action: Action) -> str:
    """What the next llamatop finds and does about a plan that was killed; in words."""
    if not down(cluster):
        return "nothing was left drained"
    since = datetime.now(UTC)
    later(cluster["node1"])
    if meant(cluster["node1"], action):
        # Somebody drained it on purpose, and it was not put back in yet.
        await settled(at)
        assert not leftovers.find(at.collector.latest.balancer, at.collector.latest.members)
        await at.do("undrain", WORKER)
        return "still drained as it was meant to be"
    told = await told_left(at, since)
    assert told.startswith(f"{WORKER} was left drained by ")
    assert told.endswith(f"({action} {WORKER}): llamatop recover puts it back")
    await settled(at)
    await at.do("recover")
    return told


@pytest.mark.parametrize("action", ["drain", "undrain", "roll"])
async def test_killed_at_any_step_nothing_is_lost_and_the_next_one_puts_it_right(
    cluster: Cluster, tmp_path: Path, action: Action
) -> None:
    node = cluster["node1"]
    before = node.read(CONF)
    drained = before.replace(f"server {ADDRESS};", f"server {ADDRESS} down;")
    assert drained != before
    left = 0
    async with (
        console(cluster, tmp_path) as at,
        Load(cluster.url, concurrency=3, tokens=(10, 40)) as load,
    ):
        words = [action, WORKER, "--yes", "-c", str(tmp_path / "cluster.toml")]
        for number in range(1, await steps_of(at, action) + 1):
            for lines in (1, 2):
                if action == "undrain":
                    await at.do("drain", WORKER)
                counted = await asyncio.to_thread(starts, cluster)
                await asyncio.to_thread(kill_when, words, at_step(number, lines))
                assert node.read(CONF) in (before, drained)
                # The next one comes at once: it waits for no more than the transaction under way.
                await at.do("drain", OTHER)
                await at.do("undrain", OTHER)
                assert node.read(CONF) in (before, drained)
                assert node.run(["nginx", "-t"], check=False).returncode == 0
                await load.wait_tokens(20)
                end = await put_right(at, cluster, action)
                left += "was left drained by" in end
                print(f"{action} step {number}, line {lines}: {end}")
                assert node.read(CONF) == before
                assert node.run(["ls", "-A", FOLDER]).stdout.split() == [NAME]
                await settled(at, "in")
                now = await asyncio.to_thread(starts, cluster)
                assert now[WORKER] - counted[WORKER] <= 1
        await load.finish()
    assert (load.cut, load.failed) == ([], [])
    assert action == "undrain" or left > 0

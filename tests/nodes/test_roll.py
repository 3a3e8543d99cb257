"""Rolls on real machines under streams, with workers that hang and connections that break."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from llamatop.model.plan import Action, StepResult
from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.load import Load, Stream
from tests.nodes.machine import Machine
from tests.nodes.test_operate import CONF, Console, console
from tests.nodes.worker import Worker

REQUESTS = int(os.environ.get("LLAMATOP_ROLL_REQUESTS", "2000"))
WORKER = "node2/gpu1"
UNITS = {"gpu0": GPU0.unit, "gpu1": GPU1.unit}


def starts(cluster: Cluster) -> dict[str, int]:
    """How often systemd started each worker since its node booted."""
    found = {}
    for node in ("node1", "node2"):
        for short, unit in UNITS.items():
            journal = cluster[node].run(["journalctl", "-b", "-o", "cat", "-u", unit]).stdout
            found[f"{node}/{short}"] = sum(
                line.startswith("Started ") for line in journal.splitlines()
            )
    return found


def during(streams: list[Stream], spans: list[tuple[float, float]]) -> list[Stream]:
    """The requests that were answered to the end while a roll was on."""
    return [
        stream
        for stream in streams
        if stream.whole
        and stream.arrivals
        and any(begin <= stream.arrivals[-1] <= end for begin, end in spans)
    ]


def down(cluster: Cluster) -> list[str]:
    """The addresses of the members that the file marks down."""
    lines = cluster["node1"].read(CONF).splitlines()
    return [line.split()[1] for line in lines if line.strip().endswith(" down;")]


async def test_rolls_under_streams_fail_and_cut_none(
    make_cluster: Callable[[Worker], Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(replace(GPU0, model="tiny"))
    cluster.power_on()
    cluster.wait_serving()
    before = cluster["node1"].read(CONF)
    spans: list[tuple[float, float]] = []
    async with (
        console(cluster, tmp_path) as at,
        Load(cluster.url, concurrency=16, tokens=(10, 150)) as load,
    ):
        await load.wait_tokens(500)
        counted = await asyncio.to_thread(starts, cluster)
        while len(during(load.streams, spans)) < REQUESTS:
            begin = time.monotonic()
            results = await at.do("roll")
            spans.append((begin, time.monotonic()))
            assert {result.state for result in results} == {"running", "done"}
            now = await asyncio.to_thread(starts, cluster)
            assert now == {name: count + 1 for name, count in counted.items()}
            counted = now
            assert cluster["node1"].read(CONF) == before
        await load.finish()
    served = during(load.streams, spans)
    seconds = ", ".join(f"{end - begin:.1f} s" for begin, end in spans)
    print(f"{len(served)} requests during {len(spans)} rolls of {seconds}")
    assert (load.cut, load.failed) == ([], [])
    assert len(served) >= REQUESTS
    assert all(stream.received == stream.asked for stream in served)
    assert set(load.by_member) == {f"127.0.0.1:{port}" for port in range(37081, 37085)}


async def test_two_at_once_while_two_stay_in(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster["node1"].read(CONF)
    async with console(cluster, tmp_path) as at, Load(cluster.url, concurrency=6) as load:
        await load.wait_tokens(100)
        plan = await at.plan("roll", at_once=3, keep=2)
        assert plan.batches == 2
        most = 0
        async for _ in at.operator.execute(plan):
            most = max(most, len(down(cluster)))
        assert most == 2
        await load.finish()
    assert (load.cut, load.failed) == ([], [])
    assert cluster["node1"].read(CONF) == before


async def test_a_worker_that_does_not_come_back_stops_the_roll(
    fresh_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = fresh_cluster
    before = cluster["node1"].read(CONF)
    unit = cluster["node1"].root / "etc/systemd/system" / GPU1.unit
    good = unit.read_text()
    bad = good.replace("--port 37082", "--port 37082 --no-such-flag")
    assert bad != good
    async with console(cluster, tmp_path) as at, Load(cluster.url, concurrency=6) as load:
        await load.wait_tokens(100)
        unit.write_text(bad)
        cluster["node1"].run(["systemctl", "daemon-reload"])
        counted = await asyncio.to_thread(starts, cluster)
        with pytest.raises(PlanFailed, match=r"no-such-flag.*node1/gpu1 stays drained"):
            await at.do("roll")
        now = await asyncio.to_thread(starts, cluster)
        assert now["node1/gpu0"] == counted["node1/gpu0"] + 1
        assert [now[f"node2/{s}"] for s in UNITS] == [counted[f"node2/{s}"] for s in UNITS]
        assert down(cluster) == ["127.0.0.1:37082"]
        await load.wait_tokens(200)
        # Mended on disk alone: that systemd has to read it again is a step of the next plan.
        unit.write_text(good)
        async with asyncio.timeout(30):
            async for snapshot in at.collector.snapshots():
                if snapshot.worker("node1/gpu1").unit.need_daemon_reload:
                    break
        await at.do("restart", "node1/gpu1")
        assert at.collector.latest.worker("node1/gpu1").sample.health in ("ok", "busy")
        await at.do("undrain", "node1/gpu1")
        await load.finish()
    assert (load.cut, load.failed) == ([], [])
    assert cluster["node1"].read(CONF) == before


async def test_a_worker_that_hangs_while_loading_stops_the_roll(
    make_cluster: Callable[[Worker], Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(replace(GPU0, model="heavy"))
    cluster.power_on()
    cluster.wait_serving()
    frozen = False
    async with (
        console(cluster, tmp_path) as at,
        Load(cluster.url, concurrency=4, tokens=(20, 60)) as load,
    ):
        await load.wait_tokens(50)
        plan = await at.plan("roll", "node1/gpu0", "node1/gpu1", timeout_seconds=25.0)
        try:
            async for result in at.operator.execute(plan):
                if result.step.kind == "wait-healthy" and not frozen:
                    frozen = True
                    await asyncio.to_thread(cluster["node1"].freeze, GPU0.unit)
            pytest.fail("the roll went on")
        except PlanFailed as failure:
            story = str(failure)
        finally:
            if frozen:
                cluster["node1"].thaw(GPU0.unit)
        assert "not done after 25 s: active/running" in story
        assert "node1/gpu0 stays drained" in story
        assert down(cluster) == ["127.0.0.1:37081"]
        await load.wait_tokens(100)
        await at.do("undrain", "node1/gpu0")
        await load.finish()
    assert (load.cut, load.failed) == ([], [])
    assert down(cluster) == []


def cut_ssh(*machines: Machine) -> int:
    """Kill every connection of llamatop's user; returns how many there were."""
    killed = 0
    for machine in machines:
        done = machine.run(["pkill", "-KILL", "-c", "-f", "^sshd: admin@"], check=False)
        killed += int(done.stdout.strip() or 0)
    return killed


async def broken(at: Console, cluster: Cluster, action: Action, step: int) -> str:
    """Carry out a plan and break all connections when a step begins; how it ended, in words."""
    plan = await at.plan(action, WORKER)
    cut = 0
    results: list[StepResult] = []
    try:
        async for result in at.operator.execute(plan):
            results.append(result)
            if result.number == step and not cut:
                cut = await asyncio.to_thread(cut_ssh, cluster["node1"], cluster["node2"])
    except PlanFailed as failure:
        return str(failure)
    finally:
        assert cut >= 2, "the connections of both nodes were to be cut"
    assert {result.state for result in results} == {"running", "done"}
    return ""


async def settled(at: Console, state: str | None = None) -> None:
    """Wait until both nodes are read again and every member is known, or is as `state` says."""
    async with asyncio.timeout(60):
        async for snapshot in at.collector.snapshots():
            fresh = all(node.reachable and not node.stale for node in snapshot.nodes)
            known = all(w.membership and w.sample.health for w in snapshot.workers)
            wrong = [w for w in snapshot.workers if state and w.membership != state]
            if fresh and known and not wrong:
                return


async def steps_of(at: Console, action: Action) -> int:
    """How many steps the plan has, so that a new one is tried by itself."""
    if action != "undrain":
        return len((await at.plan(action, WORKER)).steps)
    await at.do("drain", WORKER)
    count = len((await at.plan(action, WORKER)).steps)
    await at.do("undrain", WORKER)
    return count


@pytest.mark.parametrize("action", ["drain", "undrain", "roll"])
async def test_ssh_cut_at_any_step_loses_nothing(
    cluster: Cluster, tmp_path: Path, action: Action
) -> None:
    before = cluster["node1"].read(CONF)
    told = []
    async with (
        console(cluster, tmp_path) as at,
        Load(cluster.url, concurrency=4, tokens=(20, 80)) as load,
    ):
        for step in range(1, await steps_of(at, action) + 1):
            if action == "undrain":
                await at.do("drain", WORKER)
            await load.wait_tokens(50)
            story = await broken(at, cluster, action, step)
            told.append(f"{action} {step}: {story or 'done'}")
            await settled(at)
            node = cluster["node1"]
            assert node.run(["nginx", "-t"], check=False).returncode == 0
            for lock in ("/run/lock/llamatop-membership.lock", "/tmp/llamatop-membership.lock"):
                free = node.run(["sh", "-c", f"[ ! -e {lock} ] || flock -n {lock} true"])
                assert free.returncode == 0
            drained = down(cluster)
            assert drained in ([], ["127.0.0.1:37084"])
            # Whatever is not as the plan was to leave it was named.
            meant = action == "drain"
            assert bool(drained) is meant or story, told
            if drained and not meant:
                assert "stays drained" in story or "still down" in story or "interrupted" in story
            if drained:
                await at.do("undrain", WORKER)
            assert node.read(CONF) == before
            await settled(at, "in")
        with suppress(TimeoutError):
            await load.wait_tokens(50)
        await load.finish()
    print("\n".join(told))
    assert (load.cut, load.failed) == ([], [])

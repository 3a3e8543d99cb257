"""llamatop killed, and ssh cut, at the steps of a split and an unsplit: old or new, but whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from llamatop.model.plan import Action, Plan, StepResult
from tests.nodes.cluster import Cluster
from tests.nodes.load import Load
from tests.nodes.machine import Machine
from tests.nodes.test_kills import at_step, kill_when, later
from tests.nodes.test_operate import CONF, Console, console
from tests.nodes.test_reshape import NEW, OPS, UNITS, mixed

__all__ = ["mixed"]

OLD = "node1/big"
MADE = ("llama-server-gpu0.service", "llama-server-gpu1.service")
WHAT: dict[Action, tuple[str, ...]] = {"unsplit": (OLD,), "split": NEW}
WORKERS = 3


def units(node: Machine) -> list[str]:
    return sorted(path.name for path in (node.root / UNITS[1:]).iterdir())


async def settled(at: Console) -> None:
    """Wait until the node is read again, and what runs is known."""
    async with asyncio.timeout(60):
        async for snapshot in at.collector.snapshots():
            fresh = all(node.reachable and not node.stale for node in snapshot.nodes)
            runs = [w for w in snapshot.workers if w.unit.active_state == "active"]
            if fresh and all(w.membership and w.sample.health for w in runs):
                return


async def shape(at: Console, cluster: Cluster, before: str, files: Sequence[str]) -> str:
    """Which of the two states it is, proved to be whole."""
    node = cluster["node1"]
    await settled(at)
    found = {worker.name: worker for worker in at.collector.latest.workers}
    old = found[OLD]
    news = [found[name] for name in NEW if name in found]
    stands = {
        name: (
            found[name].unit.active_state,
            found[name].unit.unit_file_state,
            found[name].membership,
        )
        for name in (OLD, *NEW)
        if name in found
    }
    serving = ("active", "enabled", "in")
    if old.membership == "in":
        assert stands[OLD] == serving
        assert all(worker.membership != "in" for worker in news), stands
        assert all(stands[worker.name][:2] == ("inactive", "disabled") for worker in news), stands
        if not news:
            assert node.read(CONF) == before
            assert units(node) == files
        return "old"
    assert stands == {OLD: ("inactive", "disabled", "down"), **dict.fromkeys(NEW, serving)}
    assert [name for name in units(node) if name.endswith("llamatop-new")] == []
    return "new"


async def to(at: Console, cluster: Cluster, action: Action, before: str) -> None:
    """What `action` is to be tried on: as at first, or with the new units in."""
    node = cluster["node1"]
    if action == "split":
        if at.membership(OLD) == "in":
            await at.do("unsplit", OLD)
        return
    if at.membership(OLD) != "in":
        await at.do("split", *NEW)
    if any((node.root / f"{UNITS[1:]}/{unit}").exists() for unit in MADE):
        for unit in MADE:
            (node.root / f"{UNITS[1:]}/{unit}").unlink()
        node.systemctl("daemon-reload")
        node.write(CONF, before)
        node.systemctl("reload", "nginx")
        async with asyncio.timeout(60):
            async for snapshot in at.collector.snapshots():
                if len(snapshot.workers) == WORKERS:
                    break
    await settled(at)


# Each of these leaves another state; tests/unit/operate/test_reshape.py has every step.
KILLED: dict[Action, tuple[tuple[int, int], ...]] = {
    "unsplit": ((1, 2), (5, 2), (10, 1), (10, 2), (12, 2)),
    "split": ((2, 2), (4, 2), (9, 1)),
}


async def over(at: Console, node: Machine) -> Plan:
    """The plan that recovers, once the lease is over: what runs on the node outlives who began."""
    async with asyncio.timeout(60):
        while True:
            later(node)
            plan = await at.plan("recover")
            if not any("has not ended" in warning for warning in plan.warnings):
                return plan


@pytest.mark.parametrize("action", ["unsplit", "split"])
async def test_killed_at_any_step_recover_makes_it_whole(
    mixed: Cluster, tmp_path: Path, action: Action
) -> None:
    node = mixed["node1"]
    before, files = node.read(CONF), units(node)
    async with (
        console(mixed, tmp_path, WORKERS, **OPS) as at,
        Load(mixed.url, concurrency=3, tokens=(10, 40)) as load,
    ):
        ends = []
        words = [action, *WHAT[action], "--yes", "-c", str(tmp_path / "cluster.toml")]
        for number, lines in KILLED[action]:
            await to(at, mixed, action, before)
            await asyncio.to_thread(kill_when, words, at_step(number, lines))
            assert node.run(["nginx", "-t"], check=False).returncode == 0
            await load.wait_tokens(20)
            await settled(at)
            plan = await over(at, node)
            assert plan.stays == ()
            if plan.steps:
                await at.execute(plan)
            ends.append(await shape(at, mixed, before, files))
            print(f"{action} killed at {number}, {lines}: {ends[-1]}: {plan.about}")
            again = await at.plan("recover")
            assert (again.steps, again.stays) == ((), ())
        await to(at, mixed, "unsplit", before)
        assert await shape(at, mixed, before, files) == "old"
        await load.finish()
    assert (load.cut, load.failed) == ([], [])
    assert set(ends) == {"old", "new"}


async def test_ssh_cut_at_every_step_of_both_ways(mixed: Cluster, tmp_path: Path) -> None:
    node = mixed["node1"]
    before, files = node.read(CONF), units(node)
    async with (
        console(mixed, tmp_path, WORKERS, **OPS) as at,
        Load(mixed.url, concurrency=3, tokens=(10, 60)) as load,
    ):
        for action, end in (("unsplit", "new"), ("split", "old")):
            results: list[StepResult] = []
            cut: set[int] = set()
            async for result in at.operator.execute(await at.plan(action, *WHAT[action])):
                results.append(result)
                if result.number not in cut:
                    cut.add(result.number)
                    done = node.run(["pkill", "-KILL", "-c", "-f", "^sshd: ops@"], check=False)
                    assert int(done.stdout.strip() or 0) > 0
            assert {result.state for result in results} == {"running", "done"}
            assert await shape(at, mixed, before, files) == end
            assert node.run(["nginx", "-t"], check=False).returncode == 0
        await to(at, mixed, "unsplit", before)
        assert await shape(at, mixed, before, files) == "old"
        await load.finish()
    assert (load.cut, load.failed) == ([], [])

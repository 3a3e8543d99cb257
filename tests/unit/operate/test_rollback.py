"""What a plan that stops half-way puts back of members that may have died: all asked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from llamatop.model.observed import LeftDrained
from llamatop.model.plan import Plan
from llamatop.operate import rollback
from llamatop.operate.control import Control
from llamatop.operate.service import ClusterOperator
from tests.unit.operate.fakes import CONF, FakeCluster

FAR = ("127.0.0.1:37083", "127.0.0.1:37084")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def operator(cluster: FakeCluster, tmp_path: Path) -> ClusterOperator:
    return cluster.operator(tmp_path / "audit.jsonl")


async def carry_out(operator: ClusterOperator, plan: Plan, control: Control | None = None) -> None:
    async for _ in operator.execute(plan, control):
        pass


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0)


def drained(cluster: FakeCluster) -> list[str]:
    return [address for address, down in cluster.states().items() if down]


def transactions(cluster: FakeCluster) -> int:
    return len([command for _, command in cluster.ran if command.startswith("transaction")])


async def far_drain(
    cluster: FakeCluster, operator: ClusterOperator, control: Control | None = None
) -> asyncio.Task[None]:
    """A drain of node2's workers on its way; node2 has just gone silent."""
    for name in ("node2/gpu0", "node2/gpu1"):
        cluster.workers[name].busy = 1
    plan = await operator.plan("drain", ["node2/*"])
    away = asyncio.Event()

    def power_cut() -> None:
        cluster.silent.add("node2")
        away.set()

    cluster.ticks = [power_cut]
    work = asyncio.create_task(carry_out(operator, plan, control))
    async with asyncio.timeout(30):
        await away.wait()
    return work


async def test_all_are_asked_at_once_and_come_back_in_one_transaction(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    asked: set[str] = set()

    async def together(address: str) -> None:
        asked.add(address)
        await until(lambda: asked >= {*FAR})

    cluster.reaching = together
    work = await far_drain(cluster, operator)
    assert drained(cluster) == [*FAR]
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert drained(cluster) == []
    assert transactions(cluster) == 2, "one out, one back"


async def test_no_more_are_asked_at_once_than_the_balancer_can_take(
    cluster: FakeCluster, operator: ClusterOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "ASKED_AT_ONCE", 1)
    now, most = 0, 0

    async def count(address: str) -> None:
        nonlocal now, most
        now += 1
        most = max(now, most)
        for _ in range(20):
            await asyncio.sleep(0)
        now -= 1

    cluster.reaching = count
    work = await far_drain(cluster, operator)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert drained(cluster) == []
    assert most == 1


async def test_in_a_hurry_only_those_that_answered_come_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    asked: set[str] = set()

    async def one_hangs(address: str) -> None:
        asked.add(address)
        if address == FAR[0]:
            await asyncio.Event().wait()

    cluster.reaching = one_hangs
    control = Control()
    work = await far_drain(cluster, operator, control)
    work.cancel()
    await until(lambda: asked == {*FAR})
    assert drained(cluster) == [*FAR]
    control.hurry()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await work
    assert drained(cluster) == [FAR[0]]
    told = cluster.events[-1].text
    assert "node2/gpu0 stays drained, it did not answer yet: undrain it later" in told
    assert f"undone: {FAR[1]} in again" in told


async def test_what_is_healthy_again_waits_for_no_other(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("roll", ["node1/gpu0", "node2/gpu0"], at_once=2)
    control = Control()
    work = asyncio.create_task(carry_out(operator, plan, control))

    def abort() -> None:
        work.cancel()
        cluster.silent.add("node2")

    async def far_hangs(address: str) -> None:
        if address in FAR:
            await asyncio.Event().wait()

    cluster.during_systemctl = abort
    cluster.reaching = far_hangs
    await until(lambda: cluster.workers["node1/gpu0"].pid == 101)
    assert drained(cluster) == ["127.0.0.1:37081", FAR[0]]
    await until(lambda: drained(cluster) == [FAR[0]])
    control.hurry()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert drained(cluster) == [FAR[0]]


async def test_in_a_hurry_the_way_through_the_balancer_is_not_waited_for(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    """Its unit is healthy again, the tunnel to it is not."""
    plan = await operator.plan("restart", ["node2/gpu0"])
    control = Control()
    asked = asyncio.Event()

    async def hangs(address: str) -> None:
        asked.set()
        await asyncio.Event().wait()

    cluster.reaching = hangs
    work = asyncio.create_task(carry_out(operator, plan, control))
    async with asyncio.timeout(30):
        await asked.wait()
        asked.clear()
        work.cancel()
        await asked.wait()
    control.hurry()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await work
    assert drained(cluster) == [FAR[0]]


async def test_those_without_an_answer_are_named_each_with_its_reason(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.unreached = dict.fromkeys(FAR, 99)
    for name in ("node2/gpu0", "node2/gpu1"):
        cluster.workers[name].busy = 1
    plan = await operator.plan("drain", ["node2/*"], timeout_seconds=0.1)
    cluster.ticks = [lambda: cluster.silent.add("node2")]
    with pytest.raises(PlanFailed) as caught:
        await carry_out(operator, plan)
    for name, address in zip(("node2/gpu0", "node2/gpu1"), FAR, strict=True):
        assert f"{name} stays drained, node1 does not reach it at {address}:" in str(caught.value)
    assert drained(cluster) == [*FAR]


async def test_who_was_out_before_and_only_kept_so_stays_out(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    near = b"server 127.0.0.1:37081"
    cluster.files[CONF] = cluster.files[CONF].replace(near + b";", near + b" down;")
    member = "llama_cluster", "127.0.0.1:37081"
    cluster.left = (LeftDrained(*member, "p", "ann", "drain", 3, auto=True),)
    cluster.workers["node2/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0", "node2/gpu0"], timeout_seconds=0.05)
    assert [step.kind for step in plan.steps] == ["membership", "membership", "wait-drained"]
    with pytest.raises(PlanFailed, match="not done after"):
        await carry_out(operator, plan)
    assert drained(cluster) == ["127.0.0.1:37081"]

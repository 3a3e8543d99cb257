"""Undo: the last membership change taken back, and no more than that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed, Refused, UsageError
from llamatop.model.observed import LeftDrained
from llamatop.model.plan import Action, Plan
from llamatop.operate.service import ClusterOperator
from tests.unit.operate.fakes import CONF, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


@pytest.fixture
def operator(cluster: FakeCluster, audit: Path) -> ClusterOperator:
    return cluster.operator(audit)


async def do(operator: ClusterOperator, action: Action, *targets: str, **options: object) -> Plan:
    plan = await operator.plan(action, targets, **options)  # type: ignore[arg-type]
    async for _ in operator.execute(plan):
        pass
    return plan


def down(cluster: FakeCluster) -> list[str]:
    return [address for address, is_down in cluster.states().items() if is_down]


async def test_a_drain_is_taken_back_to_the_same_bytes(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    before = dict(cluster.files)
    await do(operator, "drain", "node1/*")
    plan = await operator.plan("undo", [])
    assert plan.targets == ("node1/gpu0", "node1/gpu1")
    assert [step.kind for step in plan.steps] == ["wait-healthy", "wait-healthy", "membership"]
    assert plan.about.startswith("takes back: drain node1/gpu0 node1/gpu1, by ")
    assert plan.about in plan.text()
    assert len(down(cluster)) == 2, "a plan changes nothing"
    await do(operator, "undo")
    assert cluster.files == before


async def test_an_undrain_is_taken_back_by_a_drain_and_that_by_an_undo(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node2/gpu0")
    await do(operator, "undrain", "node2/gpu0")
    plan = await do(operator, "undo")
    assert [step.kind for step in plan.steps] == ["membership", "wait-drained"]
    assert down(cluster) == ["127.0.0.1:37083"]
    await do(operator, "undo")
    assert down(cluster) == []


async def test_what_left_everything_as_it_was_is_passed_over(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node1/gpu0")
    await do(operator, "restart", "node1/gpu1")
    await do(operator, "disable", "node1/gpu1")
    cluster.workers["node2/gpu0"].busy = 1
    with pytest.raises(PlanFailed, match="in again"):
        await do(operator, "drain", "node2/gpu0", timeout_seconds=0.05)
    plan = await operator.plan("undo", [])
    assert plan.targets == ("node1/gpu0",)


async def test_a_drain_that_was_there_before_is_not_taken_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node1/gpu0")
    cluster.files[CONF] = cluster.files[CONF].replace(b"37083;", b"37083 down;")
    member = "llama_cluster", "127.0.0.1:37083"
    cluster.left = (LeftDrained(*member, "p", "ann", "drain", 3, auto=True),)
    kept = await do(operator, "drain", "node2/gpu0")
    assert [step.title.partition(" out")[0] for step in kept.steps] == ["keep node2/gpu0"]
    plan = await operator.plan("undo", [])
    assert plan.targets == ("node1/gpu0",)


async def test_only_what_is_still_as_it_was_left_is_taken_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node1/*")
    cluster.files[CONF] = cluster.files[CONF].replace(b"37081 down;", b"37081;")
    plan = await do(operator, "undo")
    assert plan.nothing == ("node1/gpu0 was put back in by another hand since",)
    assert plan.targets == ("node1/gpu1",)
    assert down(cluster) == []


async def test_a_member_that_is_gone_is_named(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node1/gpu0")
    cluster.files[CONF] = cluster.files[CONF].replace(b"server 127.0.0.1:37081 down;", b"")
    plan = await operator.plan("undo", [])
    assert plan.steps == ()
    assert plan.nothing == ("127.0.0.1:37081 of llama_cluster is in no upstream any more",)


async def test_nothing_to_undo_is_said(
    cluster: FakeCluster, operator: ClusterOperator, audit: Path
) -> None:
    plan = await operator.plan("undo", [])
    assert plan.steps == ()
    assert f"{audit} knows of no membership change of fake" in plan.nothing[0]
    audit.parent.mkdir()
    other = {"id": "x", "event": "plan", "cluster": "another", "plan": {}}
    audit.write_text(f"{json.dumps(other)}\n{{broken\n[]\n")
    assert (await operator.plan("undo", [])).steps == ()


async def test_a_stopped_worker_is_not_put_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "stop", "node1/gpu0")
    with pytest.raises(Refused, match=r"node1/gpu0 does not run .*start it first"):
        await operator.plan("undo", [])


async def test_undo_of_an_undrain_minds_the_guards(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await do(operator, "drain", "node1/gpu0")
    await do(operator, "undrain", "node1/gpu0")
    for name in ("node1/gpu1", "node2/gpu0", "node2/gpu1"):
        cluster.workers[name].health = "unreachable"
    with pytest.raises(Refused, match="last member in"):
        await operator.plan("undo", [])


async def test_a_plan_that_was_killed_is_taken_back_as_far_as_it_came(
    cluster: FakeCluster, operator: ClusterOperator, audit: Path
) -> None:
    await do(operator, "drain", "node1/gpu0")
    lines = audit.read_text().splitlines(keepends=True)
    audit.write_text(lines[0])
    assert (await operator.plan("undo", [])).targets == ("node1/gpu0",)


async def test_it_takes_no_worker(operator: ClusterOperator) -> None:
    with pytest.raises(UsageError, match="takes no worker"):
        await operator.plan("undo", ["node1/gpu0"])


async def test_an_audit_log_that_cannot_be_read_is_said(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="cannot be read: Is a directory"):
        await cluster.operator(tmp_path).plan("undo", [])

"""A plan runs only while the cluster is as the plan found it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from llamatop.model.observed import UnitState
from llamatop.model.plan import Verb
from llamatop.operate.service import ClusterOperator
from llamatop.operate.systemd import differs
from tests.unit.operate.fakes import CONF, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def operator(cluster: FakeCluster, tmp_path: Path) -> ClusterOperator:
    return cluster.operator(tmp_path / "audit.jsonl")


def changed(cluster: FakeCluster) -> bool:
    return any(c.startswith(("transaction", "systemctl")) for _, c in cluster.ran)


def mark_down(cluster: FakeCluster) -> None:
    cluster.files[CONF] = cluster.files[CONF].replace(b"37081;", b"37081 down;")


def drop(cluster: FakeCluster) -> None:
    cluster.files[CONF] = cluster.files[CONF].replace(b"server 127.0.0.1:37081;", b"")


@pytest.mark.parametrize(
    ("meanwhile", "says"),
    [
        (
            lambda c: setattr(c.workers["node1/gpu0"], "active", "failed"),
            "node1/gpu0 was active, it is failed now; nothing was done: make the plan again",
        ),
        (
            lambda c: setattr(c.workers["node1/gpu0"], "pid", 777),
            "its main process was 100, it is 777 now",
        ),
        (mark_down, "127.0.0.1:37081 was marked down in llama_cluster by another hand"),
        (drop, "127.0.0.1:37081 is not in upstream llama_cluster any more"),
        (lambda c: c.workers.pop("node1/gpu0"), "node1/gpu0 is not there any more"),
        (lambda c: c.silent.add("node2"), "node2 does not answer"),
        (lambda c: setattr(c, "age_seconds", 4.0), "4.0 s old, more than 3 ticks"),
    ],
)
async def test_what_changed_since_refuses_it(
    cluster: FakeCluster,
    operator: ClusterOperator,
    meanwhile: Callable[[FakeCluster], None],
    says: str,
) -> None:
    plan = await operator.plan("restart", ["node1/gpu0", "node2/gpu0"])
    meanwhile(cluster)
    with pytest.raises(PlanFailed) as caught:
        async for _ in operator.execute(plan):
            pass
    assert says in str(caught.value)
    assert caught.value.exit_code == 4
    assert not changed(cluster)


async def test_a_unit_that_flaps_may_do_so(cluster: FakeCluster, operator: ClusterOperator) -> None:
    worker = cluster.workers["node1/gpu0"]
    mark_down(cluster)
    worker.active, worker.sub = "activating", "auto-restart"
    plan = await operator.plan("restart", ["node1/gpu0"])
    worker.pid, worker.active, worker.sub = 300, "active", "running"
    async for _ in operator.execute(plan):
        pass
    assert worker.pid == 301


async def test_a_drained_worker_that_was_put_in_meanwhile_is_not_restarted(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    """Between the group before and this one somebody undrains it: a restart would cut requests."""
    mark_down(cluster)
    plan = await operator.plan("restart", ["node1/gpu1", "node1/gpu0"])

    def put_in() -> None:
        cluster.during_systemctl = lambda: None
        # As another llamatop would: the file holds what the plan has changed in it as well.
        cluster.ticks.append(
            lambda: cluster.files.update(
                {CONF: cluster.files[CONF].replace(b"37081 down;", b"37081;")}
            )
        )

    cluster.during_systemctl = put_in
    with pytest.raises(PlanFailed) as caught:
        async for _ in operator.execute(plan):
            pass
    assert caught.value.exit_code in (1, 4)
    assert cluster.workers["node1/gpu0"].pid == 100
    assert not cluster.states()["127.0.0.1:37081"]


async def test_a_worker_that_was_stopped_before_its_turn_stops_the_roll(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("roll", [])

    def stop_the_next() -> None:
        worker = cluster.workers["node1/gpu1"]
        worker.active, worker.sub = "inactive", "dead"

    cluster.during_systemctl = stop_the_next
    with pytest.raises(PlanFailed, match="node1/gpu1 was active, it is inactive now") as caught:
        async for _ in operator.execute(plan):
            pass
    assert caught.value.exit_code == 4
    assert cluster.workers["node1/gpu1"].pid == 101
    assert "node1/gpu1 stays drained, it is inactive" in str(caught.value)
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37082"]


@pytest.mark.parametrize(("verb", "fine"), [("restart", True), ("start", False)])
def test_a_restart_at_its_first_half_is_under_way(verb: Verb, fine: bool) -> None:
    before = UnitState("x.service", active_state="active", main_pid=1, since=1.0)
    after = UnitState("x.service", active_state="deactivating", main_pid=1, since=2.0)
    assert (differs(verb, before, after) is None) is fine

"""Rolls: groups that leave enough in, pauses between them, and an end that leaves nothing out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.errors import PlanFailed, Refused, UsageError
from llamatop.model.plan import Plan, StepResult
from llamatop.operate.control import Control
from llamatop.operate.pace import batch_now, seconds_left
from llamatop.operate.service import ClusterOperator
from tests.unit.operate.fakes import CONF, FakeCluster

EVERY = ("node1/gpu0", "node1/gpu1", "node2/gpu0", "node2/gpu1")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def operator(cluster: FakeCluster, tmp_path: Path) -> ClusterOperator:
    return cluster.operator(tmp_path / "audit.jsonl")


def groups(plan: Plan) -> list[list[str | None]]:
    """The workers restarted in each batch."""
    return [
        [s.worker for s in plan.steps if s.batch == batch and s.verb == "restart"]
        for batch in range(1, plan.batches + 1)
    ]


async def carry_out(
    operator: ClusterOperator,
    plan: Plan,
    control: Control | None = None,
    into: list[StepResult] | None = None,
) -> list[StepResult]:
    results = into if into is not None else []
    async for result in operator.execute(plan, control):
        results.append(result)
    return results


def restarted(cluster: FakeCluster) -> list[str]:
    first = {"node1/gpu0": 100, "node1/gpu1": 101, "node2/gpu0": 200, "node2/gpu1": 201}
    return [name for name, worker in cluster.workers.items() if worker.pid != first[name]]


async def until(true: object) -> None:
    async with asyncio.timeout(30):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0)


async def test_all_workers_go_one_after_another(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    before = dict(cluster.files)
    plan = await operator.plan("roll", [])
    assert plan.targets == EVERY
    assert groups(plan) == [[name] for name in EVERY]
    out: list[int] = []
    cluster.during_systemctl = lambda: out.append(sum(cluster.states().values()))
    await carry_out(operator, plan)
    assert out == [1, 1, 1, 1]
    assert restarted(cluster) == list(EVERY)
    assert cluster.files == before


async def test_several_at_once_leave_and_return_in_one_edit(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("roll", ["*"], at_once=2, keep=2)
    assert groups(plan) == [list(EVERY[:2]), list(EVERY[2:])]
    assert [s.kind for s in plan.steps].count("membership") == 4
    await carry_out(operator, plan)
    assert restarted(cluster) == list(EVERY)
    assert not any(cluster.states().values())


async def test_groups_shrink_so_that_enough_stay_in(operator: ClusterOperator) -> None:
    plan = await operator.plan("roll", ["*"], at_once=3, keep=2)
    assert groups(plan) == [list(EVERY[:2]), list(EVERY[2:])]
    assert "2 at once, not 3, so that 2 stay in" in plan.warnings
    with pytest.raises(Refused, match="only 3 would stay in of upstream llama_cluster, and 4 are"):
        await operator.plan("roll", ["*"], keep=4)
    forced = await operator.plan("roll", ["*"], keep=4, force=True)
    assert len(forced.warnings) == 4


async def test_a_member_that_does_not_serve_is_not_among_those_kept(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node2/gpu1"].health = "error"
    plan = await operator.plan("roll", list(EVERY[:2]), at_once=2, keep=1)
    assert groups(plan) == [list(EVERY[:2])]
    plan = await operator.plan("roll", list(EVERY[:2]), at_once=2, keep=2)
    assert groups(plan) == [["node1/gpu0"], ["node1/gpu1"]]


async def test_models_are_spread_over_groups(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    for name in EVERY[2:]:
        cluster.workers[name].model = "big"
    plan = await operator.plan("roll", list(EVERY[2:]), at_once=2)
    assert groups(plan) == [["node2/gpu0"], ["node2/gpu1"]]


async def test_what_does_not_run_is_said_and_what_is_drained_stays_so(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu1"].active = "inactive"
    cluster.files[CONF] = cluster.files[CONF].replace(b"37083;", b"37083 down;")
    plan = await operator.plan("roll", [])
    assert plan.nothing == ("node1/gpu1 does not run (inactive)",)
    assert groups(plan) == [["node1/gpu0"], ["node2/gpu0"], ["node2/gpu1"]]
    await carry_out(operator, plan)
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37083"]


async def test_only_workers_are_rolled(operator: ClusterOperator) -> None:
    with pytest.raises(UsageError, match="only a worker can be rolled"):
        await operator.plan("roll", ["node1/llama-tunnel"])


def impatient(plan: Plan, worker: str) -> Plan:
    """The same plan, waiting for this worker's health alone but a moment."""
    steps = [
        replace(step, timeout_seconds=0.3)
        if (step.kind, step.worker) == ("wait-healthy", worker)
        else step
        for step in plan.steps
    ]
    return replace(plan, steps=tuple(steps))


@pytest.mark.parametrize("fails", ["failed", "flaps", "loading"])
async def test_a_worker_that_does_not_come_back_stops_it_with_everything_else_in(
    cluster: FakeCluster, operator: ClusterOperator, fails: str
) -> None:
    cluster.workers["node1/gpu1"].fails = fails  # type: ignore[assignment]
    plan = impatient(await operator.plan("roll", [], at_once=2), "node1/gpu1")
    with pytest.raises(PlanFailed, match="node1/gpu1 stays drained, it is not healthy"):
        await carry_out(operator, plan)
    assert restarted(cluster) == list(EVERY[:2])
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37082"]


async def disturbed(
    operator: ClusterOperator, plan: Plan, disturb: Callable[[StepResult], None]
) -> None:
    async for result in operator.execute(plan):
        disturb(result)


async def test_a_worker_that_answers_once_and_dies_stops_it_before_the_next(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("roll", [])

    def flap(result: StepResult) -> None:
        if (result.number, result.state) == (5, "done"):
            worker = cluster.workers["node1/gpu0"]
            worker.pid, worker.restarts = worker.pid + 1, 7

    with pytest.raises(PlanFailed, match=r"gpu0 was healthy, but did not stay so .*7 restarts"):
        await disturbed(operator, plan, flap)
    assert restarted(cluster) == ["node1/gpu0"]
    assert not any(cluster.states().values()), "everything is in"


async def test_what_dies_before_its_group_returns_is_not_put_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu1"].fails = "loading"
    plan = await operator.plan("roll", [], at_once=2)

    def die(result: StepResult) -> None:
        if (result.step.kind, result.step.worker) == ("wait-healthy", "node1/gpu1"):
            worker = cluster.workers["node1/gpu0"]
            worker.active, worker.sub, worker.pid = "failed", "failed", 0
            cluster.workers["node1/gpu1"].health = "ok"

    with pytest.raises(PlanFailed, match=r"gpu0 was healthy, .*gpu0 stays drained"):
        await disturbed(operator, plan, die)
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37081"]


async def test_the_rest_of_a_group_is_waited_for_when_one_fails(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].fails = "failed"
    cluster.workers["node1/gpu1"].fails = "loading"
    plan = await operator.plan("roll", [], at_once=2)
    results: list[StepResult] = []
    work = asyncio.create_task(carry_out(operator, plan, into=results))
    await until(lambda: any(r.state == "failed" for r in results))
    assert cluster.states()["127.0.0.1:37082"] is True
    cluster.workers["node1/gpu1"].health = "ok"
    with pytest.raises(PlanFailed, match=r"127.0.0.1:37082 in again"):
        await work
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37081"]


async def test_it_pauses_between_groups_and_goes_on(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    control = Control()
    control.pause()
    work = asyncio.create_task(carry_out(operator, await operator.plan("roll", []), control))
    await until(lambda: control.standing)
    assert restarted(cluster) == ["node1/gpu0"]
    assert not any(cluster.states().values())
    control.resume()
    await work
    assert restarted(cluster) == list(EVERY)


async def test_an_abort_while_paused_leaves_all_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    control = Control()
    control.pause()
    work = asyncio.create_task(carry_out(operator, await operator.plan("roll", []), control))
    await until(lambda: control.standing)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert restarted(cluster) == ["node1/gpu0"]
    assert not any(cluster.states().values())


async def test_an_abort_finishes_the_worker_that_is_being_restarted(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].fails = "loading"
    results: list[StepResult] = []
    plan = await operator.plan("roll", [])
    work = asyncio.create_task(carry_out(operator, plan, into=results))
    await until(lambda: any(r.step.kind == "wait-healthy" and r.progress for r in results))
    work.cancel()
    seen = len(results)
    await until(lambda: any("loading" in r.progress for r in results[seen:]))
    assert cluster.states()["127.0.0.1:37081"] is True, "not before it answers"
    cluster.workers["node1/gpu0"].health = "ok"
    with pytest.raises(asyncio.CancelledError):
        await work
    assert restarted(cluster) == ["node1/gpu0"]
    assert not any(cluster.states().values())


async def test_a_hurried_abort_names_what_stays_out(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].fails = "loading"
    control = Control()
    results: list[StepResult] = []
    plan = await operator.plan("roll", [])
    work = asyncio.create_task(carry_out(operator, plan, control, results))
    await until(lambda: any(r.step.kind == "wait-healthy" and r.progress for r in results))
    work.cancel()
    await asyncio.sleep(0)
    control.hurry()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37081"]
    assert "node1/gpu0 stays drained, it is not healthy yet" in cluster.events[-1].text


async def test_an_abort_in_the_middle_of_systemctl_never_puts_in_what_is_about_to_stop(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("roll", [])
    work = asyncio.create_task(carry_out(operator, plan))
    downs: list[bool] = []

    def stop() -> None:
        work.cancel()
        downs.append(cluster.states()["127.0.0.1:37081"])

    cluster.during_systemctl = stop
    with pytest.raises(asyncio.CancelledError):
        await work
    assert downs == [True]
    assert restarted(cluster) == ["node1/gpu0"]
    assert cluster.workers["node1/gpu0"].health == "ok"
    assert not any(cluster.states().values())


async def test_the_time_left_is_that_of_the_groups_done(operator: ClusterOperator) -> None:
    plan = await operator.plan("roll", [])
    assert seconds_left(plan, []) is None
    size = len(plan.steps) // 4
    results = [StepResult(s, n, "done", 2.0) for n, s in enumerate(plan.steps[:size], 1)]
    assert seconds_left(plan, results) == 3 * size * 2.0
    results.append(StepResult(plan.steps[size], size + 1, "running", 3.0))
    assert seconds_left(plan, results) == 3 * size * 2.0 - 3.0
    assert batch_now(results) == 2

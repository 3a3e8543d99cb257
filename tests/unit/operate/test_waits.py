"""When a member counts as drained: what is unknown is never taken for nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from llamatop.model.plan import Step, StepResult
from llamatop.operate.control import Answer, Control
from llamatop.operate.waits import GONE_SECONDS, HELD_SECONDS, Drained, Healthy, drained
from tests.unit.operate.fakes import FakeCluster


def step(address: str) -> Step:
    members = (("llama_cluster", address),)
    unit = "llama-server-gpu0.service"
    return Step("wait-drained", "node1", "wait", worker="node1/gpu0", unit=unit, members=members)


@pytest.mark.parametrize(
    ("address", "connections", "done"),
    [
        ("127.0.0.1:37081", {}, True),
        ("127.0.0.1:37081", {"127.0.0.1:37081": 1}, False),
        ("127.0.0.1:37081", {"127.0.0.1:37082": 1}, True),
        ("[::1]:37081", {"[0:0:0:0:0:0:0:1]:37081": 1}, False),
        ("127.0.0.1", {"127.0.0.1:80": 1}, False),
        ("127.0.0.1:37081", None, True),
    ],
)
def test_connections_of_old_workers(
    address: str, connections: dict[str, int] | None, done: bool
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = connections
    assert drained(cluster.snapshot(), step(address)).done is done


@pytest.mark.parametrize(
    ("address", "connections", "done"),
    [
        ("gpu-box:37081", {}, True),
        ("gpu-box:37081", {"10.0.0.7:37081": 1}, False),
        ("unix:/run/llama.sock", {}, False),
    ],
)
def test_connections_to_a_name_or_a_socket_file_cannot_be_told(
    address: str, connections: dict[str, int], done: bool
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = connections
    cluster.workers["node1/gpu0"].busy = cluster.workers["node1/gpu0"].deferred = None
    assert drained(cluster.snapshot(), step(address)).done is done


@pytest.mark.parametrize(("busy", "deferred"), [(1, 0), (0, 1), (1, None), (None, 1)])
def test_whatever_is_known_to_run_counts(busy: int | None, deferred: int | None) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.workers["node1/gpu0"].busy = busy
    cluster.workers["node1/gpu0"].deferred = deferred
    assert drained(cluster.snapshot(), step("127.0.0.1:37081")).done is False


def test_a_worker_that_does_not_run_runs_nothing() -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = None
    cluster.workers["node1/gpu0"].active = "failed"
    assert drained(cluster.snapshot(), step("127.0.0.1:37081")).done
    cluster.silent = {"node1"}
    verdict = drained(cluster.snapshot(), step("127.0.0.1:37081"))
    assert not verdict.done
    assert "node1 does not answer" in verdict.progress


async def stop(
    cluster: FakeCluster, audit: Path, control: Control, results: list[StepResult]
) -> None:
    operator = cluster.operator(audit)
    plan = await operator.plan("stop", ["node1/gpu0"], timeout_seconds=0.05)
    async for result in operator.execute(plan, control):
        results.append(result)


async def asked(control: Control) -> None:
    async with asyncio.timeout(30):
        while not control.asking:
            await asyncio.sleep(0.001)


@pytest.fixture
def busy() -> FakeCluster:
    cluster = FakeCluster.two_by_two()
    cluster.workers["node1/gpu0"].busy = 2
    return cluster


async def test_a_late_drain_is_undone_unless_told_otherwise(
    busy: FakeCluster, tmp_path: Path
) -> None:
    with pytest.raises(
        PlanFailed, match=r"not done after 0.05 s: 2 busy slots.*in again"
    ) as caught:
        await stop(busy, tmp_path / "a", Control(), [])
    assert caught.value.exit_code == 1
    assert not any(busy.states().values())


async def test_a_late_drain_is_forced_for_scripts(busy: FakeCluster, tmp_path: Path) -> None:
    results: list[StepResult] = []
    await stop(busy, tmp_path / "a", Control("force"), results)
    assert busy.workers["node1/gpu0"].active == "inactive"
    done = [r.progress for r in results if r.step.kind == "wait-drained" and r.state == "done"]
    assert done[0].startswith("went on with 2 busy slots")


async def test_a_late_drain_is_waited_for_for_scripts(busy: FakeCluster, tmp_path: Path) -> None:
    results: list[StepResult] = []
    work = asyncio.create_task(stop(busy, tmp_path / "a", Control("wait"), results))
    async with asyncio.timeout(30):
        while not any(r.seconds > 0.2 for r in results):
            await asyncio.sleep(0.001)
    busy.workers["node1/gpu0"].busy = 0
    await work
    assert busy.workers["node1/gpu0"].active == "inactive"


@pytest.mark.parametrize("answer", ["wait", "force", "undo"])
async def test_a_late_drain_asks_and_goes_on_meanwhile(
    busy: FakeCluster, tmp_path: Path, answer: Answer
) -> None:
    control = Control("ask")
    results: list[StepResult] = []
    work = asyncio.create_task(stop(busy, tmp_path / "a", control, results))
    await asked(control)
    assert busy.states()["127.0.0.1:37081"] is True
    control.answer(answer)
    if answer == "undo":
        with pytest.raises(PlanFailed, match="in again"):
            await work
        assert busy.workers["node1/gpu0"].active == "active"
        return
    if answer == "wait":
        async with asyncio.timeout(30):
            while control.asking:
                await asyncio.sleep(0.001)
        await asked(control)
        busy.workers["node1/gpu0"].busy = 0
    await work
    assert not control.asking
    assert busy.workers["node1/gpu0"].active == "inactive"
    assert any("keep waiting, force or undo?" in r.progress for r in results)


async def test_a_late_drain_that_ends_by_itself_needs_no_answer(
    busy: FakeCluster, tmp_path: Path
) -> None:
    control = Control("ask")
    work = asyncio.create_task(stop(busy, tmp_path / "a", control, []))
    await asked(control)
    control.answer("wait")
    await asked(control)
    busy.workers["node1/gpu0"].busy = 0
    await work
    assert not control.asking
    control.answer("force")
    assert control.late() is None


async def test_what_seems_idle_is_looked_at_again(busy: FakeCluster, tmp_path: Path) -> None:
    """A tick may be older than the last request that came."""
    worker = busy.workers["node1/gpu0"]
    came: list[str] = []

    def idle() -> None:
        worker.busy = 0

    def looked() -> None:
        if worker.busy == 0 and not came:
            came.append("a request")
            worker.busy = 1
            busy.ticks.append(idle)

    busy.ticks.append(idle)
    busy.looked = looked
    results: list[StepResult] = []
    await stop(busy, tmp_path / "a", Control("wait"), results)
    assert came
    waited = [r.progress for r in results if r.step.kind == "wait-drained"]
    assert any(text.startswith("1 busy slot,") for text in waited)
    assert worker.active == "inactive"


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("workers/llama-server-gpu0.service", "node1/gpu0 is slow to answer (2 s)"),
        ("units", "systemctl on node1 is slow to answer (2 s)"),
    ],
)
def test_figures_that_age_say_nothing(part: str, says: str) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.ages = {part: 2.0}
    for verdict in (
        drained(cluster.snapshot(), step("127.0.0.1:37081")),
        Healthy(step("127.0.0.1:37081"))(cluster.snapshot()),
    ):
        assert not verdict.done
        assert says in verdict.progress


def test_a_balancer_whose_figures_age_says_nothing_of_a_drain() -> None:
    cluster = FakeCluster.two_by_two()
    cluster.ages = {"balancer": 2.0}
    unit = "llama-server-gpu0.service"
    members = (("llama_cluster", "127.0.0.1:37083"),)
    far = Step("wait-drained", "node2", "wait", worker="node2/gpu0", unit=unit, members=members)
    verdict = drained(cluster.snapshot(), far)
    assert not verdict.done
    assert "nginx on node1 is slow to answer (2 s)" in verdict.progress
    healthy = Step("wait-healthy", "node2", "wait", worker="node2/gpu0", unit=unit)
    assert Healthy(healthy)(cluster.snapshot()).done


@pytest.mark.parametrize(("held", "seconds"), [(0, GONE_SECONDS), (1, HELD_SECONDS)])
@pytest.mark.parametrize("lost", ["node", "worker"])
def test_who_is_dead_runs_nothing_after_a_while(held: int, seconds: float, lost: str) -> None:
    cluster, now = FakeCluster.two_by_two(), [100.0]
    cluster.connections = {"127.0.0.1:37083": held} if held else {}
    members = (("llama_cluster", "127.0.0.1:37083"),)
    unit = "llama-server-gpu0.service"
    far = Step("wait-drained", "node2", "wait", worker="node2/gpu0", unit=unit, members=members)
    judge = Drained(far, lambda: now[0])
    cluster.workers["node2/gpu0"].busy = 2
    assert not judge(cluster.snapshot()).done
    if lost == "node":
        cluster.silent = {"node2"}
    else:
        cluster.workers["node2/gpu0"].health = "unreachable"
        cluster.workers["node2/gpu0"].busy = None
        cluster.ages = {}
    begun = judge(cluster.snapshot())
    if lost == "node" or held:
        assert not begun.done
        now[0] += seconds - 0.1
        assert not judge(cluster.snapshot()).done
        # an answer between: it lives
        cluster.silent, cluster.workers["node2/gpu0"].health = set(), "ok"
        cluster.workers["node2/gpu0"].busy = 2
        assert not judge(cluster.snapshot()).done
        if lost == "node":
            cluster.silent = {"node2"}
        else:
            cluster.workers["node2/gpu0"].health = "unreachable"
            cluster.workers["node2/gpu0"].busy = None
        assert not judge(cluster.snapshot()).done
        now[0] += seconds
        verdict = judge(cluster.snapshot())
        assert verdict.done
        assert "does not answer" in verdict.progress
        # of a balancer that is silent nothing is known
        cluster.silent = {"node1"}
        assert not judge(cluster.snapshot()).done


async def test_a_worker_of_a_lost_node_can_be_drained_but_not_stopped(tmp_path: Path) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.silent = {"node2"}
    operator = cluster.operator(tmp_path / "a")
    plan = await operator.plan("drain", ["node2/gpu0"])
    results: list[StepResult] = []
    work = operator.execute(plan)
    async with asyncio.timeout(30):
        async for result in work:
            results.append(result)
            if result.step.kind == "wait-drained" and result.state == "running":
                cluster.silent = set()
    assert cluster.states()["127.0.0.1:37083"]
    assert not any(node == "node2" for node, _ in cluster.ran[:1])
    assert results[-1].state == "done"


@pytest.mark.parametrize("held", [0, 1])
def test_who_was_lost_long_before_is_waited_for_only_where_nginx_holds_connections(
    held: int,
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = {"127.0.0.1:37083": held} if held else {}
    cluster.silent, cluster.lost_seconds = {"node2"}, GONE_SECONDS
    members = (("llama_cluster", "127.0.0.1:37083"),)
    unit = "llama-server-gpu0.service"
    far = Step("wait-drained", "node2", "wait", worker="node2/gpu0", unit=unit, members=members)
    assert Drained(far, lambda: 100.0)(cluster.snapshot()).done is not bool(held)

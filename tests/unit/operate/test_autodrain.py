"""Dead members leave by themselves, and come back: only when that is certain, within the guards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamatop.model.plan import Action, Plan, StepResult
from llamatop.operate.autodrain import AutoDrain
from llamatop.operate.control import Control
from llamatop.operate.vitals import SURE_TICKS, WELL_TICKS, Move, Vitals
from llamatop.probe.drains import AGAIN_SECONDS
from tests.unit.operate.beside import running, until
from tests.unit.operate.fakes import CONF, FakeCluster, FakeFleet, FakeSource

GPU1 = "node2/gpu1"
LINE = "127.0.0.1:37084"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


def ticks(vitals: Vitals, cluster: FakeCluster, number: int) -> list[Move]:
    moves = [vitals.look(cluster.snapshot(tick)) for tick in range(number)]
    return [move for move in moves if move is not None]


def mark_down(cluster: FakeCluster) -> None:
    """By hand, in the file."""
    up = f"{LINE};".encode()
    cluster.files[CONF] = cluster.files[CONF].replace(up, f"{LINE} down;".encode())


def fails(cluster: FakeCluster) -> None:
    cluster.workers[GPU1].active = "failed"


def hangs(cluster: FakeCluster) -> None:
    cluster.workers[GPU1].health = "unreachable"


def stops(cluster: FakeCluster) -> None:
    cluster.workers[GPU1].active = "inactive"


def waits_to_restart(cluster: FakeCluster) -> None:
    cluster.workers[GPU1].active, cluster.workers[GPU1].sub = "activating", "auto-restart"


@pytest.mark.parametrize("dies", [fails, hangs, stops, waits_to_restart])
def test_who_is_dead_for_some_ticks_goes_out(
    cluster: FakeCluster, dies: Callable[[FakeCluster], None]
) -> None:
    vitals = Vitals(Clock())
    assert ticks(vitals, cluster, 20) == []
    dies(cluster)
    assert ticks(vitals, cluster, SURE_TICKS - 1) == []
    (move,) = ticks(vitals, cluster, 1)
    assert (move.action, move.worker) == ("drain", GPU1)
    assert move.why


def test_one_answer_between_begins_anew(cluster: FakeCluster) -> None:
    vitals = Vitals(Clock())
    for _ in range(3):
        cluster.workers[GPU1].health = "unreachable"
        assert ticks(vitals, cluster, SURE_TICKS - 1) == []
        cluster.workers[GPU1].health = "ok"
        assert ticks(vitals, cluster, 1) == []


@pytest.mark.parametrize("health", ["loading", "error", "unauthorized", "busy", None])
def test_what_is_not_certainly_dead_stays(cluster: FakeCluster, health: str | None) -> None:
    cluster.workers[GPU1].health = health  # type: ignore[assignment]
    assert ticks(Vitals(Clock()), cluster, 30) == []


def test_a_crash_loop_is_one_though_it_answers_at_moments(cluster: FakeCluster) -> None:
    vitals, worker = Vitals(Clock()), cluster.workers[GPU1]
    moves = []
    for tick in range(12):
        worker.restarts += tick % 2
        worker.health = "ok" if tick % 2 else "loading"
        moves += ticks(vitals, cluster, 1)
    assert moves[0].worker == GPU1
    assert "died" in moves[0].why
    assert "last result exit-code" in moves[0].why


def test_restarts_of_long_ago_are_no_crash_loop(cluster: FakeCluster) -> None:
    cluster.workers[GPU1].restarts = 40
    assert ticks(Vitals(Clock()), cluster, 30) == []
    vitals = Vitals(Clock())
    for _ in range(4):
        cluster.workers[GPU1].restarts += 1
        assert ticks(vitals, cluster, 40) == []


@pytest.mark.parametrize("silent", ["node1", "node2"])
def test_old_figures_say_nothing_and_the_count_begins_anew(
    cluster: FakeCluster, silent: str
) -> None:
    vitals = Vitals(Clock())
    hangs(cluster)
    assert ticks(vitals, cluster, SURE_TICKS - 1) == []
    cluster.silent = {silent}
    assert ticks(vitals, cluster, 30) == []
    cluster.silent = set()
    assert ticks(vitals, cluster, SURE_TICKS - 1) == []
    assert len(ticks(vitals, cluster, 1)) == 1


@pytest.mark.parametrize("part", ["units", "workers"])
def test_parts_that_are_old_say_nothing_though_their_node_answers(
    cluster: FakeCluster, part: str
) -> None:
    vitals, worker = Vitals(Clock()), cluster.workers["node1/gpu1"]
    worker.active = "inactive"
    assert ticks(vitals, cluster, SURE_TICKS - 1) == []
    cluster.ages = {part: 3.0}
    assert ticks(vitals, cluster, 30) == []
    cluster.ages = {}
    assert ticks(vitals, cluster, SURE_TICKS - 1) == []
    assert [move.worker for move in ticks(vitals, cluster, 1)] == ["node1/gpu1"]


def test_one_that_hangs_is_dead_by_the_check_beside_its_slow_answer(cluster: FakeCluster) -> None:
    vitals, worker = Vitals(Clock()), cluster.workers["node1/gpu1"]
    worker.health, cluster.ages = "unreachable", {f"workers/{worker.unit}": 4.0}
    assert [move.worker for move in ticks(vitals, cluster, SURE_TICKS)] == ["node1/gpu1"]


@pytest.mark.parametrize("silent", ["node1", "node2"])
def test_restarts_while_nobody_looked_are_no_crash_loop(cluster: FakeCluster, silent: str) -> None:
    vitals, worker = Vitals(Clock()), cluster.workers[GPU1]
    worker.restarts = 2
    assert ticks(vitals, cluster, 3) == []
    cluster.silent, worker.restarts = {silent}, 5
    assert ticks(vitals, cluster, 3) == []
    cluster.silent = set()
    assert ticks(vitals, cluster, 30) == []


def test_what_was_not_looked_at_for_long_begins_anew(cluster: FakeCluster) -> None:
    clock = Clock()
    vitals, worker = Vitals(clock), cluster.workers[GPU1]
    worker.restarts = 2
    assert ticks(vitals, cluster, 3) == []
    # a plan ran meanwhile
    clock.now, worker.restarts = clock.now + 90.0, 5
    assert ticks(vitals, cluster, 30) == []


def test_who_was_taken_out_by_hand_is_not_put_back(cluster: FakeCluster) -> None:
    mark_down(cluster)
    assert ticks(Vitals(Clock()), cluster, 40) == []


def dies_and_is_well(vitals: Vitals, cluster: FakeCluster, up: str) -> None:
    """gpu1, in by the file `up`, dies, is taken out, and answers again."""
    worker = cluster.workers[GPU1]
    worker.health = "unreachable"
    cluster.files[CONF] = up
    (out,) = ticks(vitals, cluster, SURE_TICKS)
    vitals.moved(out)
    mark_down(cluster)
    worker.health = "ok"


def test_who_dies_again_has_to_be_well_for_longer(cluster: FakeCluster) -> None:
    up, vitals = cluster.files[CONF], Vitals(Clock())
    for times in range(3):
        dies_and_is_well(vitals, cluster, up)
        assert ticks(vitals, cluster, WELL_TICKS * 2**times - 1) == []
        (back,) = ticks(vitals, cluster, 1)
        assert back == Move("undrain", GPU1, "it serves again")
        vitals.moved(back)


def test_who_died_again_long_ago_is_as_any_other(cluster: FakeCluster) -> None:
    up, clock = cluster.files[CONF], Clock()
    vitals = Vitals(clock)
    for _ in range(3):
        dies_and_is_well(vitals, cluster, up)
        clock.now += AGAIN_SECONDS
        assert ticks(vitals, cluster, WELL_TICKS - 1) == []
        (back,) = ticks(vitals, cluster, 1)
        vitals.moved(back)


def draining(
    cluster: FakeCluster,
    audit: Path,
    busy: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] | None = None,
) -> AbstractAsyncContextManager[None]:
    work = AutoDrain(
        FakeSource(cluster),
        cluster.operator(audit),
        FakeFleet(cluster),
        busy=busy,
        clock=clock or Clock(),
    )
    return running(work.run())


async def test_it_goes_out_and_comes_back_with_the_reason_in_the_audit_log(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    async with draining(cluster, audit):
        fails(cluster)
        await until(lambda: cluster.states()[LINE])
        await until(lambda: '"end"' in audit.read_text())
        cluster.workers[GPU1].active = "active"
        await until(lambda: not any(cluster.states().values()))
    plans = [json.loads(line) for line in audit.read_text().splitlines()]
    reasons = [one["plan"]["reason"] for one in plans if one["event"] == "plan"]
    assert reasons == [
        "auto-drain: its unit failed, last result exit-code",
        "auto-drain: it serves again",
    ]
    assert any("auto-drain: its unit failed" in event.text for event in cluster.events)


async def test_the_last_one_that_serves_stays(cluster: FakeCluster, tmp_path: Path) -> None:
    for name in cluster.workers:
        cluster.workers[name].health = "unreachable"
    async with draining(cluster, tmp_path / "a"):
        await until(lambda: any("did not drain" in event.text for event in cluster.events))
        await until(lambda: cluster.reloads > 0 or len(cluster.events) > 1)
    assert not any(cluster.states().values())
    told = [event.text for event in cluster.events if "did not drain" in event.text]
    assert "last" in told[0] or "all that is in" in told[0]
    assert len(told) == len(set(told))


async def test_one_that_may_not_go_holds_up_no_other(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.workers["node1/gpu0"].model = "the only one"
    cluster.workers["node1/gpu0"].health = cluster.workers[GPU1].health = "unreachable"
    async with draining(cluster, tmp_path / "a"):
        await until(lambda: cluster.states()[LINE])
    assert not cluster.states()["127.0.0.1:37081"]


async def test_while_a_persons_plan_is_at_hand_it_waits(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    at_hand = True
    fails(cluster)
    looked = [0]

    def busy() -> bool:
        looked[0] += 1
        return at_hand

    async with draining(cluster, tmp_path / "a", busy):
        await until(lambda: looked[0] > 5)
        assert not any(cluster.states().values())
        at_hand = False
        await until(lambda: cluster.states()[LINE])


class Asked:
    """An Operator whose plans hold no step, or that breaks; it remembers what was asked for."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._fault = fault

    async def plan(
        self,
        action: Action,
        targets: Sequence[str],
        *,
        now: bool = False,
        force: bool = False,
        timeout_seconds: float | None = None,
        at_once: int = 1,
        keep: int = 1,
    ) -> Plan:
        self.asked.append((action, targets[0]))
        if self._fault is not None:
            raise self._fault
        return Plan(action, (), nothing=(f"{targets[0]} is drained already",))

    def execute(self, plan: Plan, control: Control | None = None) -> AsyncIterator[StepResult]:
        raise NotImplementedError


def asking(cluster: FakeCluster, operator: Asked) -> AbstractAsyncContextManager[None]:
    work = AutoDrain(FakeSource(cluster), operator, FakeFleet(cluster), clock=Clock())
    return running(work.run())


async def test_what_a_person_was_quicker_to_take_out_is_not_put_back(cluster: FakeCluster) -> None:
    operator, seen = Asked(), [0]
    fails(cluster)
    async with asking(cluster, operator):
        await until(lambda: bool(operator.asked))
        mark_down(cluster)
        cluster.workers[GPU1].active = "active"
        cluster.ticks = [lambda: seen.append(0)] * (3 * WELL_TICKS)
        await until(lambda: not cluster.ticks)
    assert operator.asked == [("drain", GPU1)]


async def test_a_plan_that_breaks_is_told_and_ends_nothing(cluster: FakeCluster) -> None:
    operator = Asked(RuntimeError("boom"))
    fails(cluster)
    async with asking(cluster, operator):
        await until(lambda: len(operator.asked) > 1)
    (told,) = [event for event in cluster.events if event.worker == GPU1]
    assert told.severity == "warning"
    assert told.text.endswith("RuntimeError: boom")

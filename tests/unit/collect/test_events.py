"""Events out of two snapshots: what is told, and how loudly."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from msgspec.structs import replace

from llamatop.collect.events import EventLog
from llamatop.collect.leftovers import Leftover
from llamatop.model.cluster import MemberView
from llamatop.model.observed import (
    BalancerSample,
    NodeSnapshot,
    UnitState,
    UpstreamMember,
    WorkerSample,
)
from llamatop.model.plan import Plan, Step

UNIT, OTHER = "llama-server-gpu0.service", "llama-server-gpu1.service"
RESTART = Plan(
    "restart",
    ("node1/gpu0",),
    (
        Step("membership", "node1", "drain", worker="node1/gpu0"),
        Step("systemctl", "node1", "restart", worker="node1/gpu0", unit=UNIT, verb="restart"),
    ),
)


def node(health: str, pending: bool, unit: str = UNIT, state: str = "active") -> NodeSnapshot:
    return NodeSnapshot(
        "node1",
        received_at=1.0,
        reachable=True,
        units={unit: UnitState(unit, "worker", active_state=state, sub_state=state)},
        workers={unit: WorkerSample(unit, health=health, fault="refused")},  # type: ignore[arg-type]
        balancer=BalancerSample(reload_pending=pending, running=True),
    )


def told(log: EventLog, *snapshots: NodeSnapshot) -> list[tuple[str, str]]:
    before = len(log.events)
    for was, now in pairwise(snapshots):
        log.compare(was, now, {})
    return [(event.severity, event.text) for event in log.events[before:]]


def log(plan: Plan | None) -> EventLog:
    made = EventLog(lambda: datetime.now(UTC))
    made.plan = plan
    return made


def test_what_no_plan_brings_about_is_an_alarm() -> None:
    assert told(log(None), node("ok", False), node("unreachable", True)) == [
        ("error", f"{UNIT} is unreachable: refused"),
        ("warning", "nginx's files are newer than what runs: a reload is pending"),
    ]


def test_what_our_own_plan_brings_about_is_told_calmly() -> None:
    mine = log(RESTART)
    assert told(mine, node("ok", False), node("unreachable", True), node("ok", False)) == [
        ("info", f"{UNIT} does not answer while the plan runs"),
        ("info", f"{UNIT} is ok"),
        ("info", "nginx was reloaded"),
    ]
    mine.plan = None
    assert told(mine, node("ok", False), node("unreachable", False))[0][0] == "error"


def test_what_the_plan_does_not_mean_to_bring_about_stays_an_alarm() -> None:
    mine = log(RESTART)
    failed = told(mine, node("ok", False), node("ok", False, state="failed"))
    assert [severity for severity, _ in failed] == ["error"]
    other = told(mine, node("ok", False, OTHER), node("unreachable", False, OTHER))
    assert other == [("error", f"{OTHER} is unreachable: refused")]
    elsewhere = [replace(node(health, False), name="node2") for health in ("ok", "error")]
    assert [severity for severity, _ in told(mine, *elsewhere)] == ["error"]


ONE, TWO = (UpstreamMember("a", f"127.0.0.1:{port}", down=False) for port in (1, 2))


def views(*lines: UpstreamMember) -> list[MemberView]:
    return [MemberView(line.upstream, line.address, "in") for line in lines]


def test_a_server_line_is_added_only_where_it_was_not_there_before() -> None:
    mine = log(None)
    mine.take_members("node1", [], [ONE])
    # Only now is it known that a worker of this cluster stands behind it.
    mine.take_members("node1", views(ONE), [ONE])
    assert mine.events == ()
    mine.take_members("node1", views(ONE, TWO), [ONE, TWO])
    assert mine.events[-1].text == "127.0.0.1:2 was added to a"
    mine.take_members("node1", [], [ONE])
    assert [event.text for event in mine.events[1:]] == ["127.0.0.1:2 was removed from a"]


def test_what_two_plans_left_drained_one_after_the_other_is_told_twice() -> None:
    """It reads the same, and the first was put back in between."""
    log = EventLog(lambda: datetime(2026, 11, 21, 2, 0, tzinfo=UTC))
    first, second = (
        Leftover(("u", "a"), "node1/gpu0", "ann@desk", "drain node1/gpu0", 0, plan)
        for plan in ("p1", "p2")
    )
    assert log.compare_left("node1", (), (first,))
    assert not log.compare_left("node1", (first,), (first,))
    assert not log.compare_left("node1", (), (first,)), "a glimpse without it"
    assert log.compare_left("node1", (), (second,))
    assert len(log.events) == 2


def test_a_crash_loop_is_told_once_a_while_however_often_it_goes_round() -> None:
    def rounds(count: int) -> NodeSnapshot:
        unit = UnitState(UNIT, active_state="activating", sub_state="auto-restart", restarts=count)
        if count % 2:
            unit = replace(unit, result="exit-code")
        return NodeSnapshot("node1", True, received_at=1.0, units={UNIT: unit})

    found = told(log(None), *map(rounds, range(12)))
    assert [severity for severity, _ in found] == ["warning", "error"]
    assert "3 times so far" in found[1][1]

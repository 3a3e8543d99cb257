"""A worker that nginx still sends to though it cannot serve."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamatop.advise.dead import HEALTH, RULES
from llamatop.advise.dead import to_take_out as tiers
from llamatop.advise.doctor import judge
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import BalancerSample, UnitState
from tests.screens.clusters import well


def found(changed: WorkerView, base: ClusterSnapshot | None = None) -> list[tuple[str, str]]:
    base = base or well()
    workers = (changed, *base.workers[1:])
    return [
        (one.place, one.evidence) for rule in RULES for one in rule(replace(base, workers=workers))
    ]


def with_unit(worker: WorkerView, **changes: object) -> WorkerView:
    unit: UnitState = replace(worker.unit, **changes)  # type: ignore[arg-type]
    return replace(worker, unit=unit)


def dead_ones() -> list[tuple[WorkerView, str]]:
    worker = well().workers[0]
    silent = replace(worker.sample, health="unreachable", fault="no answer within 2 s")
    return [
        (
            with_unit(worker, active_state="failed", result="oom-kill"),
            "its unit failed, last result oom-kill",
        ),
        (
            with_unit(worker, active_state="activating", sub_state="auto-restart", restarts=4),
            "it dies and systemd starts it again, 4 times so far",
        ),
        (with_unit(worker, active_state="inactive"), "its unit is stopped"),
        (replace(worker, sample=silent), "it does not answer: no answer within 2 s"),
    ]


@pytest.mark.parametrize(("worker", "evidence"), dead_ones())
def test_it_is_told_with_what_shows_it(worker: WorkerView, evidence: str) -> None:
    assert found(worker) == [(worker.name, evidence)]


@pytest.mark.parametrize(("worker", "evidence"), dead_ones())
def test_who_is_out_may_be_dead_and_old_figures_say_nothing(
    worker: WorkerView, evidence: str
) -> None:
    for membership in ("down", "draining", "absent", None):
        assert found(replace(worker, membership=membership)) == []  # type: ignore[arg-type]
    base = well()
    nodes = (replace(base.nodes[0], stale=True), *base.nodes[1:])
    assert found(worker, replace(base, nodes=nodes)) == []


@pytest.mark.parametrize("part", ["units", "workers"])
def test_parts_that_are_old_say_nothing(part: str) -> None:
    base = well()
    first = base.nodes[0]
    aged = replace(first, snapshot=replace(first.snapshot, ages={part: 3.0}))
    for worker, _ in dead_ones():
        assert found(worker, replace(base, nodes=(aged, *base.nodes[1:]))) == []


def test_one_that_hangs_is_told_though_its_answer_is_slow() -> None:
    base = well()
    worker, evidence = dead_ones()[-1]
    first = base.nodes[0]
    ages = {f"workers/{worker.unit.name}": 4.0}
    aged = replace(first, snapshot=replace(first.snapshot, ages=ages))
    nodes = (aged, *base.nodes[1:])
    assert found(worker, replace(base, nodes=nodes)) == [(worker.name, evidence)]


def test_who_loads_or_works_is_not_dead() -> None:
    worker = well().workers[0]
    for health in ("ok", "busy", "loading", "unauthorized", "error", None):
        sample = replace(worker.sample, health=health)  # type: ignore[arg-type]
        assert found(replace(worker, sample=sample)) == []


def test_a_lost_card_tells_why_its_worker_errs() -> None:
    base = well()
    card = replace(base.gpus[0], sample=replace(base.gpus[0].sample, fault="GPU is lost"))
    lost = replace(base, gpus=(card, *base.gpus[1:]))
    worker = base.workers[0]
    erring = replace(worker, sample=replace(worker.sample, health="error"))
    assert found(erring, lost) == [(worker.name, "GPU 0: GPU is lost")]
    # a card that only withholds a figure takes nobody out
    assert found(worker, lost) == []


def off_the_bus(base: ClusterSnapshot) -> ClusterSnapshot:
    """The same with the first card lost, whose worker says that all is well."""
    sample = replace(
        base.gpus[0].sample, fault="GPU is lost", utilization_percent=None, memory_used_bytes=None
    )
    return replace(base, gpus=(replace(base.gpus[0], sample=sample), *base.gpus[1:]))


def to_take_out(snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """What goes first."""
    return next((names for names in tiers(snapshot) if names), ())


def without_second_node(base: ClusterSnapshot) -> ClusterSnapshot:
    node = base.nodes[1]
    lost = replace(
        node,
        reachable=False,
        stale=True,
        fault="it did not answer; is it up?",
        snapshot=replace(node.snapshot, reachable=False, silent=True),
    )
    return replace(base, nodes=(base.nodes[0], lost))


def test_the_dead_are_taken_out_first_then_those_on_lost_cards_then_those_of_lost_nodes() -> None:
    base = well()
    assert to_take_out(base) == ()
    away = without_second_node(base)
    assert to_take_out(away) == ("node2/big",)
    assert to_take_out(off_the_bus(away)) == base.gpus[0].workers == ("node1/gpu0",)
    second = replace(base.workers[1], unit=replace(base.workers[1].unit, active_state="failed"))
    workers = (base.workers[0], second, *base.workers[2:])
    assert to_take_out(replace(off_the_bus(away), workers=workers)) == ("node1/gpu1",)


def test_nobody_is_taken_out_for_a_figure_withheld_or_without_the_balancer() -> None:
    base = well()
    sample = replace(base.gpus[0].sample, fault="power is not supported", power_watts=None)
    assert to_take_out(replace(base, gpus=(replace(base.gpus[0], sample=sample),))) == ()
    nobody = replace(without_second_node(base), balancer_node=None)
    own = replace(without_second_node(base), balancer_node="node2")
    drained = tuple(replace(worker, membership="down") for worker in base.workers)
    out = replace(off_the_bus(without_second_node(base)), workers=drained)
    for snapshot in (nobody, own, out):
        assert to_take_out(snapshot) == ()


def test_nobody_is_taken_out_of_a_node_that_merely_cannot_be_read() -> None:
    away = without_second_node(well())
    first, second = away.nodes
    unread = replace(second, snapshot=replace(second.snapshot, silent=False), fault="no key fits")
    assert to_take_out(replace(away, nodes=(first, unread))) == ()


def test_nobody_is_taken_out_while_the_balancer_is_not_heard_either() -> None:
    away = without_second_node(well())
    first, second = away.nodes
    for ours in (replace(first, reachable=False), replace(first, stale=True)):
        assert to_take_out(replace(away, nodes=(ours, second))) == ()


def test_a_lost_node_is_told_with_its_own_mend_and_the_doubt() -> None:
    (one,) = judge(without_second_node(well()), HEALTH).findings
    assert one.evidence == "it did not answer"
    drain = "llamatop drain node2/big, if nginx does not reach them either"
    assert one.mend == f"is it up?; {drain}"
    assert one.plan is not None
    unread = replace(well().nodes[1], reachable=False, fault="every key was refused")
    (one,) = judge(replace(well(), nodes=(well().nodes[0], unread)), HEALTH).findings
    assert one.plan is None
    assert "drain" not in one.mend


def health(base: ClusterSnapshot) -> list[tuple[str, str]]:
    return [(one.id, one.place) for one in judge(base, HEALTH).findings]


def test_a_node_that_is_lost() -> None:
    base = well()
    assert health(base) == []
    lost = replace(base.nodes[1], reachable=False, fault="no answer")
    assert health(replace(base, nodes=(base.nodes[0], lost))) == [("node-lost", "node2")]
    # a host key that is wrong is told by its own rule
    fault = "the host key of 10.0.0.12 has changed"
    wrong = replace(base.nodes[1], reachable=False, fault=fault)
    assert health(replace(base, nodes=(base.nodes[0], wrong))) == []
    # it has not been tried yet
    young = replace(base.nodes[1], reachable=False, fault=None)
    assert health(replace(base, nodes=(base.nodes[0], young))) == []


def test_nginx_that_is_down_or_would_be() -> None:
    base = well()
    for sample in (BalancerSample(running=False), BalancerSample(config_valid=False)):
        assert health(replace(base, balancer=sample)) == [("nginx-down", "node1")]
    for sample in (BalancerSample(), BalancerSample(running=True, config_valid=True)):
        assert health(replace(base, balancer=sample)) == []

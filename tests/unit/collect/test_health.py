"""Whether one worker counts against the cluster's health, and what the totals count."""

from __future__ import annotations

import pytest

from llamatop.collect.decode import Decoder
from llamatop.collect.health import totals, well
from llamatop.collect.node_state import NodeState
from llamatop.model.cluster import Membership, WorkerView
from llamatop.model.declared import Node
from llamatop.model.observed import Health, UnitState, WorkerSample


@pytest.mark.parametrize(
    ("active", "enabled", "membership", "health", "is_well"),
    [
        ("active", "enabled", "in", "ok", True),
        ("active", "enabled", "in", "loading", False),
        ("inactive", "disabled", "absent", None, True),
        ("active", "disabled", "absent", "error", True),
        ("inactive", "enabled", "down", "unreachable", True),
        # Read by HTTP alone: no unit is known.
        (None, None, None, "ok", True),
        (None, None, None, "busy", True),
        (None, None, None, "loading", True),
        (None, None, None, None, True),
        (None, None, None, "unauthorized", False),
        (None, None, None, "error", False),
        (None, None, None, "unreachable", False),
        (None, None, "down", "error", True),
        (None, None, "in", "loading", False),
    ],
)
def test_a_worker_is_well_where_it_does_what_is_wanted(
    active: str | None,
    enabled: str | None,
    membership: Membership | None,
    health: Health | None,
    is_well: bool,
) -> None:
    unit = UnitState("a.service", "worker", active_state=active, unit_file_state=enabled)
    sample = WorkerSample("a.service", health=health)
    worker = WorkerView("n/a", "n", unit, sample, membership=membership)
    assert well(worker) is is_well


def test_never_more_slots_are_busy_than_there_are() -> None:
    def view(busy: int | None, total: int | None) -> WorkerView:
        sample = WorkerSample("x")
        return WorkerView("n/x", "n", UnitState("x"), sample, slots_busy=busy, slots_total=total)

    mixed = totals([view(3, 4), view(9, None), view(None, 4)])
    assert (mixed.slots_busy, mixed.slots_total) == (3, 4)
    limitless = totals([view(9, None), view(2, None)])
    assert (limitless.slots_busy, limitless.slots_total) == (11, None)


def test_a_vllm_told_its_most_requests_has_so_many_for_each_engine() -> None:
    given = {
        "unit": "v",
        "engine": "vllm",
        "health": "ok",
        "requests_processing": 5,
        "launch": {"parallel": 4},
        "engines": {"0": {"running": 4}, "1": {"running": 1}},
    }
    state = NodeState(Node("n", "n"), 1.0)
    state.update(Decoder("n").snapshot({"workers": {"v": given}}, 1.0))
    state.view(1.0)
    (view,) = state.views.workers
    assert (view.slots_busy, view.slots_total) == (5, 8)

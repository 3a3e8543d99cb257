"""Whether one worker counts against the cluster's health."""

from __future__ import annotations

import pytest

from llamatop.collect.health import well
from llamatop.model.cluster import Membership, WorkerView
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

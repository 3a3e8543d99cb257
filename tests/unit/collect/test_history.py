"""The ring buffers: what was, in order, and no more of it than fits."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from msgspec.structs import replace

from llamatop.collect.history import Ring
from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, Totals, WorkerView
from llamatop.model.declared import Cluster
from llamatop.model.observed import GpuSample, NodeSnapshot, UnitState, WorkerSample


def snapshot(rate: float | None, *names: str, stale: bool = False) -> ClusterSnapshot:
    unit, sample = UnitState("a.service"), WorkerSample("a.service")
    return ClusterSnapshot(
        Cluster("c", ()),
        datetime.now(UTC),
        1,
        nodes=(NodeView("n", NodeSnapshot("n"), True, 0.1, stale=stale),),
        gpus=(GpuView("n", GpuSample("GPU-1", utilization_percent=rate)),),
        workers=tuple(
            WorkerView(name, "n", unit, sample, generation_tokens_per_second=rate) for name in names
        ),
        totals=Totals(generation_tokens_per_second=rate),
    )


def test_values_are_in_order_and_the_unknown_is_none() -> None:
    ring = Ring(1.0)
    for rate in (1.5, None, 0.0):
        ring.record(snapshot(rate, "n/a"))
    past = ring.generation("n/a")
    assert list(past) == [1.5, None, 0.0]
    assert past[-1] == 0.0
    assert past[-2:] == [None, 0.0]
    assert past[:0] == []
    assert list(ring.total_generation()) == [1.5, None, 0.0]
    assert list(ring.gpu_utilization("n", "GPU-1")) == [1.5, None, 0.0]
    assert list(ring.slots_busy("n/a")) == [None, None, None]
    assert ring.generation("nobody") == ()


def test_only_the_last_ten_minutes_are_kept() -> None:
    ring = Ring(60.0)
    for rate in range(25):
        ring.record(snapshot(float(rate), "n/a"))
    assert list(ring.generation("n/a")) == [float(rate) for rate in range(15, 25)]


def test_a_worker_begins_when_it_is_first_seen_and_is_forgotten_when_it_is_long_gone() -> None:
    ring = Ring(60.0)
    ring.record(snapshot(1.0))
    ring.record(snapshot(2.0, "n/a"))
    assert list(ring.generation("n/a")) == [2.0]
    for _ in range(3):
        ring.record(snapshot(3.0))
    assert list(ring.generation("n/a")) == [2.0, None, None, None]
    ring.record(snapshot(4.0, "n/a"))
    assert ring.generation("n/a")[-2:] == [None, 4.0]
    for _ in range(11):
        ring.record(snapshot(5.0))
    assert ring.generation("n/a") == ()


def test_who_comes_after_another_was_forgotten_has_no_past_of_it() -> None:
    ring = Ring(60.0)
    ring.record(snapshot(1.0, "n/a"))
    for rate in range(11):
        ring.record(snapshot(float(rate)))
    for rate in (7.0, 8.0):
        ring.record(snapshot(rate, "n/b", "n/c"))
    assert list(ring.generation("n/b")) == list(ring.generation("n/c")) == [7.0, 8.0]
    assert list(ring.slots_busy("n/c")) == [None, None]
    assert list(ring.total_generation())[-3:] == [10.0, 7.0, 8.0]


def test_a_cluster_of_which_nothing_is_known_has_a_total() -> None:
    ring = Ring(60.0)
    nothing = replace(snapshot(1.0), gpus=())
    ring.record(nothing)
    ring.record(nothing)
    assert list(ring.total_generation()) == [1.0, 1.0]


def test_a_stale_nodes_cards_are_unknown() -> None:
    ring = Ring(1.0)
    ring.record(snapshot(50.0, stale=True))
    assert list(ring.gpu_utilization("n", "GPU-1")) == [None]


def test_all_room_is_taken_at_once() -> None:
    ring = Ring(1.0)
    ring.record(snapshot(1.0, "n/a"))
    at_first = sum(sys.getsizeof(row) for row in ring._rows)
    for rate in range(700):
        ring.record(snapshot(float(rate), "n/a"))
    assert sum(sys.getsizeof(row) for row in ring._rows) == at_first

"""What the worker table lists: workers, tunnels and nginx, each as one row; and their orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llamatop.app.render.state import State, bare_unit_state, worker_states
from llamatop.collect import leftovers
from llamatop.model.cluster import ClusterSnapshot, GpuView, WorkerView
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import UnitState


class Row(NamedTuple):
    """One line of the table; `name` is what an action is given, `worker` None for other units.

    `stale_seconds` is the age of what it shows where that is too old to trust, else None.
    `around` are the cards of its node, `file` is what its model's file says of itself, `left` who
    took it out of the upstream and why, where that was not a drain on purpose.
    """

    name: str
    node: str
    unit: UnitState
    state: State
    worker: WorkerView | None = None
    stale_seconds: float | None = None
    around: tuple[GpuView, ...] = ()
    file: ModelFile | None = None
    left: str = ""

    @property
    def shown(self) -> str:
        """The name without `.service`, which every name may go without."""
        return self.name.removesuffix(".service")

    @property
    def cards(self) -> tuple[GpuView, ...]:
        """The cards that it is on; none where that is not known."""
        on = self.worker.gpus if self.worker is not None else None
        return tuple(gpu for gpu in self.around if gpu.sample.index in on) if on else ()


def cards_by_node(snapshot: ClusterSnapshot) -> dict[str, tuple[GpuView, ...]]:
    """Each node's cards in their order; nodes without any are left out."""
    found: dict[str, list[GpuView]] = {}
    for gpu in snapshot.gpus:
        found.setdefault(gpu.node, []).append(gpu)
    return {node: tuple(gpus) for node, gpus in found.items()}


def rows(snapshot: ClusterSnapshot) -> list[Row]:
    """Every worker in the snapshot's order, then tunnels and nginx by node."""
    cards = cards_by_node(snapshot)
    files = {node.name: node.snapshot.models for node in snapshot.nodes}
    left = {one.worker: one.story for one in leftovers.find(snapshot.balancer, snapshot.members)}
    # Of a node that was never read nothing is old: it is not known.
    stale = {node.name: node.age_seconds for node in snapshot.nodes if node.stale}
    listed = [
        Row(
            worker.name,
            worker.node,
            worker.unit,
            state,
            worker,
            stale.get(worker.node),
            cards.get(worker.node, ()),
            files.get(worker.node, {}).get(worker.sample.launch.model or ""),
            left.get(worker.name, ""),
        )
        for worker, state in zip(snapshot.workers, worker_states(snapshot.workers), strict=True)
    ]
    for node in snapshot.nodes:
        listed += [
            Row(
                f"{node.name}/{unit.name}",
                node.name,
                unit,
                bare_unit_state(unit),
                None,
                stale.get(node.name),
            )
            for unit in node.snapshot.units.values()
            if unit.kind in ("tunnel", "nginx")
        ]
    return listed


def _worst(row: Row) -> tuple[float, ...]:
    return (0 if row.stale_seconds is not None else row.state.rank,)


def _generation(row: Row) -> tuple[float, ...]:
    return largest(row.worker.generation_tokens_per_second if row.worker else None)


def _busy(row: Row) -> tuple[float, ...]:
    return largest(row.worker.slots_busy if row.worker else None)


def _queue(row: Row) -> tuple[float, ...]:
    return largest(row.worker.sample.requests_deferred if row.worker else None)


def largest(value: float | None) -> tuple[float, ...]:
    """A key that puts the largest first and the unknown last."""
    return (1.0, 0.0) if value is None else (0.0, -value)


def _declared(row: Row) -> tuple[float, ...]:
    return ()


SORTS: dict[str, Callable[[Row], tuple[float, ...]]] = {
    "node": _declared,
    "worst first": _worst,
    "generation": _generation,
    "busy slots": _busy,
    "queue": _queue,
}


def arrange(listed: Sequence[Row], sort: str) -> list[Row]:
    """The rows in the order of SORTS; equal ones keep the cluster's own order.

    Units without an endpoint stay below the workers, except where the worst come first.
    """
    key = SORTS[sort]
    if sort == "worst first":
        return sorted(listed, key=key)
    return sorted(listed, key=lambda row: (row.worker is None, key(row)))

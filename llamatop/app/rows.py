"""What the worker table lists: workers, tunnels and nginx; filtered, sorted, in a stable order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llamatop.app.render.state import State, bare_unit_state, worker_state
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import UnitState


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `name` is what an action is given, `worker` None for other units.

    `stale_seconds` is the age of what it shows where that is too old to trust, else None.
    """

    name: str
    node: str
    unit: UnitState
    state: State
    worker: WorkerView | None = None
    stale_seconds: float | None = None

    @property
    def shown(self) -> str:
        """The name without `.service`, which every name may go without."""
        return self.name.removesuffix(".service")

    def words(self) -> str:
        """What the filter looks in: name, model and state."""
        model = self.worker.sample.model if self.worker else None
        membership = self.worker.membership if self.worker else None
        return f"{self.name} {model or ''} {self.state.word} {membership or ''}"


def rows(snapshot: ClusterSnapshot) -> list[Row]:
    """Every worker in the snapshot's order, then tunnels and nginx by node."""
    nodes = {node.name: node for node in snapshot.nodes}

    def stale(node: str) -> float | None:
        view = nodes.get(node)
        return (view.age_seconds or 0.0) if view is not None and view.stale else None

    listed = [
        Row(worker.name, worker.node, worker.unit, worker_state(worker), worker, stale(worker.node))
        for worker in snapshot.workers
    ]
    for node in snapshot.nodes:
        listed += [
            Row(
                f"{node.name}/{unit.name}",
                node.name,
                unit,
                bare_unit_state(unit),
                None,
                stale(node.name),
            )
            for unit in node.snapshot.units.values()
            if unit.kind in ("tunnel", "nginx")
        ]
    return listed


def matches(needle: str, row: Row) -> bool:
    """Whether each word of `needle` is in the row fuzzily: its letters in order within one word."""
    words = row.words().lower().split()
    return all(any(_subsequence(part, word) for word in words) for part in needle.lower().split())


def _subsequence(needle: str, word: str) -> bool:
    letters = iter(word)
    return all(letter in letters for letter in needle)


def _worst(row: Row) -> tuple[float, ...]:
    return (0 if row.stale_seconds is not None else row.state.rank,)


def _generation(row: Row) -> tuple[float, ...]:
    return _largest(row.worker.generation_tokens_per_second if row.worker else None)


def _busy(row: Row) -> tuple[float, ...]:
    return _largest(row.worker.slots_busy if row.worker else None)


def _queue(row: Row) -> tuple[float, ...]:
    return _largest(row.worker.sample.requests_deferred if row.worker else None)


def _largest(value: float | None) -> tuple[float, ...]:
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


def arrange(listed: Sequence[Row], needle: str, sort: str) -> list[Row]:
    """The rows that match, in the order of SORTS; equal ones keep the cluster's own order.

    Units without an endpoint stay below the workers, except where the worst come first.
    """
    key = SORTS[sort]
    kept = [row for row in listed if matches(needle, row)] if needle.strip() else list(listed)
    if sort == "worst first":
        return sorted(kept, key=key)
    return sorted(kept, key=lambda row: (row.worker is None, key(row)))

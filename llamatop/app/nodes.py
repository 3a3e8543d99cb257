"""The line of a node: what is worst on it, how busy its cards are, its slots and rates."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from llamatop.app.render.state import CHANGING, FAULT, FINE, STOPPED, State
from llamatop.app.rows import Row, cards_by_node, largest, rows
from llamatop.collect.health import totals
from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, Totals

CONNECTING = State("connecting", "◌", "dim", CHANGING)
SILENT = State("no answer", "✗", "worker.fault", FAULT)
EMPTY = State("no worker", "○", "dim", STOPPED)


def whole_node(node: str) -> str:
    """The pattern that means every worker of a node."""
    return f"{glob.escape(node)}/*"


class NodeRow(Struct, frozen=True, dict=True):
    """A node's line in the table; `name` is what an action is given: all its workers.

    `rows` are its workers, tunnels and nginx, `listed` those of them that the filter leaves.
    Everything else is worked out when it is drawn or sorted by.
    """

    node: str
    view: NodeView
    rows: tuple[Row, ...] = ()
    listed: tuple[Row, ...] = ()
    cards: tuple[GpuView, ...] = ()

    @cached_property
    def name(self) -> str:
        """The pattern that means every worker of the node, as the command line takes it."""
        return whole_node(self.node)

    @property
    def shown(self) -> str:
        """The name, and how much of the node a filter leaves."""
        left, whole = len(self.listed), len(self.rows)
        return self.node if left == whole else f"{self.node} {left} of {whole}"

    @property
    def stale_seconds(self) -> float | None:
        """The age of what it shows where that is too old to trust, else None."""
        return self.view.age_seconds if self.view.stale else None

    @cached_property
    def state(self) -> State:
        """The worst of its workers and cards, counted where there are several of that kind."""
        view = self.view
        if view.age_seconds is None and not view.reachable:
            return SILENT if view.fault else CONNECTING
        if not view.reachable:
            return SILENT
        lost = sum(gpu.sample.fault is not None for gpu in self.cards)
        worst = min(self.rows, key=lambda row: row.state.rank, default=None)
        rank = FINE if worst is None else worst.state.rank
        if rank == FAULT or lost:
            count = sum(row.state.rank == FAULT for row in self.rows) + lost
            alone = worst.state.word if worst is not None and rank == FAULT else "card fault"
            return State(alone if count == 1 else f"{count} faults", "✗", "worker.fault", FAULT)
        if worst is None:
            return EMPTY
        if rank in (CHANGING, STOPPED):
            alike = sum(row.state == worst.state for row in self.rows)
            word = worst.state.word if alike == 1 else f"{alike} {worst.state.word}"
            return State(word, worst.state.mark, worst.state.role, rank)
        return worst.state

    @cached_property
    def totals(self) -> Totals:
        """Sums over its workers; None where nothing is known."""
        return totals([row.worker for row in self.rows if row.worker is not None])

    @property
    def workers(self) -> int:
        """How many workers it has."""
        return sum(row.worker is not None for row in self.rows)

    @property
    def serving(self) -> int:
        """How many of its workers are in the upstream."""
        return sum(row.worker is not None and row.worker.membership == "in" for row in self.rows)

    @property
    def worst(self) -> Row | None:
        """The worker that needs a look first; None where it has none."""
        return min(self.rows, key=lambda row: (row.state.rank, row.worker is None), default=None)


Line = Row | NodeRow


def by_node(snapshot: ClusterSnapshot, listed: Sequence[Row]) -> list[NodeRow]:
    """A line for every node in the cluster's order."""
    cards = cards_by_node(snapshot)
    of = _grouped(listed)
    return [
        NodeRow(
            view.name,
            view,
            (mine := of.get(view.name, ())),
            mine,
            cards.get(view.name, ()),
        )
        for view in snapshot.nodes
    ]


def filtered(nodes: Sequence[NodeRow], listed: Sequence[Row]) -> list[NodeRow]:
    """The nodes that have any of the rows that a filter leaves."""
    of = _grouped(listed)
    return [replace(node, listed=of[node.node]) for node in nodes if node.node in of]


def _grouped(rows: Sequence[Row]) -> dict[str, tuple[Row, ...]]:
    of: dict[str, list[Row]] = {}
    for row in rows:
        of.setdefault(row.node, []).append(row)
    return {node: tuple(mine) for node, mine in of.items()}


def find(snapshot: ClusterSnapshot, name: str) -> Line | None:
    """The worker, unit or node that the table calls `name`; None where it is gone."""
    listed = rows(snapshot)
    lines: list[Line] = [*listed, *by_node(snapshot, listed)]
    return next((line for line in lines if line.name == name), None)


NODE_SORTS: dict[str, Callable[[NodeRow], tuple[float, ...]]] = {
    "node": lambda node: (),
    "worst first": lambda node: (0 if node.stale_seconds is not None else node.state.rank,),
    "generation": lambda node: largest(node.totals.generation_tokens_per_second),
    "busy slots": lambda node: largest(node.totals.slots_busy),
    "queue": lambda node: largest(node.totals.requests_deferred),
}


def arrange_nodes(nodes: Sequence[NodeRow], sort: str) -> list[NodeRow]:
    """The nodes in the order that their workers are sorted by."""
    return sorted(nodes, key=NODE_SORTS[sort])

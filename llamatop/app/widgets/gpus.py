"""The panel of cards: a line a card, or a heat map where they are many."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events

from llamatop.app.messages import NodePointed
from llamatop.app.nodes import NodeRow
from llamatop.app.render import gpus as render
from llamatop.app.render import heat
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import History
from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.figures import gibibytes, percent, watts


class GpuPanel(Lines, can_focus=True):
    """Every card of the cluster, its node's first card with the node's name."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._gpus: tuple[GpuView, ...] = ()
        self._stale: frozenset[str] = frozenset()
        self._history: History | None = None
        self._layout: tuple[int, render.GpuLayout] | None = None
        self._node_rows: Sequence[NodeRow] = ()
        self._node: str | None = None
        # Set where the cards are drawn as a heat map.
        self.heat: heat.HeatLayout | None = None
        self.spaced = True

    def show(
        self,
        snapshot: ClusterSnapshot,
        history: History | None,
        nodes: Sequence[NodeRow] = (),
        node: str | None = None,
    ) -> None:
        """Take the latest cards and what they did before; `node` is where the cursor is."""
        self._gpus = snapshot.gpus
        self._stale = frozenset(
            node.name for node in snapshot.nodes if node.stale or not node.reachable
        )
        self._history = history
        self._node_rows = with_cards(nodes)
        self._node = node
        self._layout = None
        self.redraw()

    def point(self, node: str | None) -> None:
        """The cursor of the table went to another node."""
        if node != self._node:
            before, self._node = self._node, node
            if self.heat is not None:
                places = {name: at for at, name in enumerate(one.node for one in self._node_rows)}
                across = self.heat.across
                self.repaint(*(places[one] // across for one in (before, node) if one in places))

    def sticky(self) -> list[Text]:
        """A blank line where there is room, and the heading with the means of those that answer."""
        return [Text()] * self.spaced + [self._heading()]

    def count(self) -> int:
        """One a card, or as many as the heat map has."""
        return self.heat.lines(len(self._node_rows)) if self.heat else len(self._gpus)

    def line(self, place: int, width: int) -> Text:
        """The card or the nodes at `place`."""
        if self.heat is not None:
            return heat.line(self._node_rows, place, self.heat, self.palette, self._node)
        if self._layout is None or self._layout[0] != width:
            self._layout = (width, render.layout(self._gpus, width))
        gpu = self._gpus[place]
        past = self._history.gpu_utilization(gpu.node, gpu.sample.uuid) if self._history else ()
        return render.line(
            self._gpus,
            place,
            self._layout[1],
            past,
            self.palette,
            stale=gpu.node in self._stale,
        )

    def on_click(self, event: events.Click) -> None:
        """A click on a node's cards puts the cursor of the table on it."""
        place = self._place(event.y, self._top_lines())
        if place < 0 or place >= self.count():
            return
        if self.heat is None:
            self.post_message(NodePointed(self._gpus[place].node))
        elif (at := heat.node_at(self._node_rows, place, self.heat, event.x)) is not None:
            self.post_message(NodePointed(at.node))

    def _heading(self) -> Text:
        text = piece(" gpus", self.palette["key" if self.has_focus else "heading"])
        fresh = [gpu.sample for gpu in self._gpus if gpu.node not in self._stale]
        busy = [gpu.utilization_percent for gpu in fresh if gpu.utilization_percent is not None]
        used = [gpu.memory_used_bytes for gpu in fresh if gpu.memory_used_bytes is not None]
        total = [gpu.memory_total_bytes for gpu in fresh if gpu.memory_total_bytes is not None]
        power = [gpu.power_watts for gpu in fresh if gpu.power_watts is not None]
        parts = [str(len(self._gpus))]
        if busy:
            parts.append(f"{percent(sum(busy) / len(busy))} mean")
        if used:
            parts.append(gibibytes(sum(used), sum(total) if total else None))
        if power:
            parts.append(watts(sum(power), None))
        if self.heat is None:
            text.append("  " + " · ".join(parts), self.palette["faint"])
            return text
        lost = sum(gpu.sample.fault is not None for gpu in self._gpus)
        warm = sum(gpu.node not in self._stale and render.hot(gpu) for gpu in self._gpus)
        old = sum(gpu.node in self._stale for gpu in self._gpus)
        # What is wrong comes first, then what the marks mean, then the sums.
        faults, scale = heat.legend(self.palette, lost, warm, old)
        room = self.drawn_width - len(text) - len(faults)
        shown = len(scale) <= room
        room -= len(scale) if shown else 0
        while parts and len(" · ".join(parts)) + 2 > room:
            parts.pop()
        text.append("  " + " · ".join(parts) if parts else "", self.palette["faint"])
        return text.append_text(faults).append_text(scale if shown else Text())


def expected(snapshot: ClusterSnapshot) -> int:
    """How many cards there will be: nodes not heard yet are taken to have as many as the others."""
    waiting = sum(node.age_seconds is None and not node.fault for node in snapshot.nodes)
    heard, cards = len(snapshot.nodes) - waiting, len(snapshot.gpus)
    return cards + (waiting * cards // heard if heard else 0)


def with_cards(nodes: Sequence[NodeRow]) -> list[NodeRow]:
    """The nodes that have cards, or may have: those not heard yet."""
    return [node for node in nodes if node.cards or node.view.age_seconds is None]

"""The panel of cards."""

from __future__ import annotations

from rich.text import Text

from llamatop.app.render import gpus as render
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import History
from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.figures import gibibytes, percent


class GpuPanel(Lines, can_focus=True):
    """Every card of the cluster, its node's first card with the node's name."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._gpus: tuple[GpuView, ...] = ()
        self._stale: frozenset[str] = frozenset()
        self._history: History | None = None
        self._layout: tuple[int, render.GpuLayout] | None = None
        self.spaced = True

    def show(self, snapshot: ClusterSnapshot, history: History | None) -> None:
        """Take the latest cards and what they did before."""
        self._gpus = snapshot.gpus
        self._stale = frozenset(
            node.name for node in snapshot.nodes if node.stale or not node.reachable
        )
        self._history = history
        self._layout = None
        self.redraw()

    def sticky(self) -> list[Text]:
        """A blank line where there is room, and the heading with the means of those that answer."""
        return [Text()] * self.spaced + [self._heading()]

    def count(self) -> int:
        """One a card."""
        return len(self._gpus)

    def line(self, place: int, width: int) -> Text:
        """The card at `place`."""
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
            parts.append(f"{sum(power):.0f}W")
        text.append("  " + " · ".join(parts), self.palette["faint"])
        return text

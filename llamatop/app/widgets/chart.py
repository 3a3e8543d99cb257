"""The whole cluster's tokens over the last minutes, where the terminal has room for it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from llamatop.app.render.detail import area, axis
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import History
from llamatop.model.cluster import ClusterSnapshot


class ChartPanel(Lines):
    """Generation tokens per second, all workers together."""

    DEFAULT_CSS = "ChartPanel { overflow-y: hidden; }"
    _values: Sequence[float | None] = ()
    _interval = 1.0
    spaced = True

    def show(self, snapshot: ClusterSnapshot, history: History | None) -> None:
        """Take the latest history."""
        self._values = history.total_generation() if history is not None else ()
        self._interval = snapshot.cluster.interval_seconds
        self.redraw()

    def sticky(self) -> list[Text]:
        """All of it: nothing here scrolls."""
        width, height = self.size
        rows = max(1, height - 2 - self.spaced)
        name = "all workers, gen tok/s"
        drawn = area(name, self._values, width, rows, "rate.generation", self.palette)
        return [Text()] * self.spaced + [*drawn, axis(width, self._interval, self.palette)]

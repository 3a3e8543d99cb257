"""One worker or node, full screen."""

from __future__ import annotations

from textual.app import ComposeResult

from llamatop.app.nodes import NodeRow, find
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.detail import DetailPane
from llamatop.app.widgets.status import KeyLine, StatusLine


class DetailScreen(ClusterScreen):
    """Facts, slots, charts and the live journal of one worker or unit, or a node; esc goes back."""

    DEFAULT_CSS = """
    DetailScreen { background: $background; layout: vertical; }
    DetailScreen StatusLine, DetailScreen KeyLine { height: 1; }
    """

    def __init__(self, name: str, read_only: bool) -> None:
        super().__init__(read_only)
        self.worker_name = name

    def compose(self) -> ComposeResult:
        """The pane and the two bottom lines."""
        palette = self.top.palette
        self.pane = DetailPane(palette)
        self.status = StatusLine(palette)
        self.status.display = False
        self.keys = KeyLine(palette)
        self.keys.read_only = self.read_only
        self.keys.left_out = frozenset({"mark", "detail", "filter", "sort"})
        yield self.pane
        yield self.status
        yield self.keys

    def on_mount(self) -> None:
        """Show what is known already."""
        self.pane.journal.focus()
        self.show()
        self.show_plan()

    def show(self) -> None:
        """Draw the worker as it is now; one that is gone keeps its last picture, said so."""
        if not self.children:
            return
        snapshot = self.top.snapshot
        row = find(snapshot, self.worker_name)
        interval = snapshot.cluster.interval_seconds
        self.pane.show(row, self.top.history, snapshot.taken_at, interval)
        unit = None if isinstance(row, NodeRow) else self.worker_name
        self.pane.journal.watch_unit(self.top.source, unit)

    def show_plan(self) -> None:
        """The status line shows the plan while its dialog is hidden."""
        text = self.top.plan_status()
        self.status.display = text is not None
        if text is not None:
            self.status.show(text)

    def targets(self) -> list[str]:
        """The one shown."""
        return [self.worker_name]

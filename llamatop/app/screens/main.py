"""The main screen: everything that matters of a cluster at one glance."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input

from llamatop.app.messages import RowOpened, RowSelected
from llamatop.app.render.alerts import alerts
from llamatop.app.render.layout import share
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.chart import ChartPanel
from llamatop.app.widgets.detail import DetailPane
from llamatop.app.widgets.events import EventPanel
from llamatop.app.widgets.gpus import GpuPanel
from llamatop.app.widgets.status import KeyLine, StatusLine
from llamatop.app.widgets.totals import Alerts, Totals
from llamatop.app.widgets.workers import WorkerTable

FILTER_HINT = "filter by node, name, model or state"


class FilterBar(Input):
    """One line to type a filter in; esc clears it, enter keeps it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.clear_filter", show=False),
        Binding("down", "screen.keep_filter", show=False),
    ]


class MainScreen(ClusterScreen):
    """A pure function of the latest snapshot, the cursor, the filter and the terminal's size."""

    DEFAULT_CSS = """
    MainScreen { background: $background; layout: vertical; }
    MainScreen Totals, MainScreen StatusLine, MainScreen KeyLine { height: 1; }
    #body { height: 1fr; layout: vertical; }
    #body.wide { layout: horizontal; }
    #left { height: auto; width: 1fr; layout: vertical; }
    #body.wide > #left { height: 1fr; }
    #body > DetailPane { padding: 1 0 0 0; }
    #body.wide > DetailPane { padding: 0 0 0 2; }
    #filter { height: 1; border: none; padding: 0 1; background: $surface; }
    """

    def compose(self) -> ComposeResult:
        """Totals, faults, cards, workers, events, detail, status, keys."""
        palette = self.top.palette
        self.totals = Totals(palette, id="totals")
        self.alerts = Alerts(palette, id="alerts")
        self.chart = ChartPanel(palette, id="chart")
        self.gpus = GpuPanel(palette, id="gpus")
        self.table = WorkerTable(palette, id="workers")
        self.events = EventPanel(palette, id="events")
        self.detail = DetailPane(palette, id="detail")
        self.status = StatusLine(palette, id="status")
        self.keys = KeyLine(palette, id="keys")
        self.filter = FilterBar(id="filter", placeholder=FILTER_HINT, compact=True)
        self.filter.cursor_blink = False
        self.filter.display = self.status.display = self.detail.display = False
        self.totals.read_only = self.keys.read_only = self.read_only
        self.totals.snapshot = self.top.snapshot
        self.body = Container(
            Container(self.chart, self.gpus, self.table, self.filter, self.events, id="left"),
            self.detail,
            id="body",
        )
        yield self.totals
        yield self.alerts
        yield self.body
        yield self.status
        yield self.keys

    def on_mount(self) -> None:
        """The keys go to the table."""
        self.table.focus()
        self.show()

    def on_resize(self) -> None:
        """Share the screen out anew."""
        self.show()

    def show(self) -> None:
        """Draw the app's latest snapshot."""
        if not self.children:
            return
        top = self.top
        snapshot = top.snapshot
        found = alerts(snapshot, top.changing())
        self.totals.snapshot, self.alerts.found = snapshot, found
        self.totals.found = found
        self.keys.wanted = frozenset({"faults"} if found else ())
        self.totals.history = top.history.total_generation() if top.history else ()
        self.totals.silent_seconds = top.silent_seconds
        self.table.show(snapshot)
        self._share(self.alerts.wanted(self.size.width))
        self.totals.redraw()
        self.keys.redraw()
        self.alerts.redraw()
        self.table.redraw()
        self.chart.show(snapshot, top.history)
        self.gpus.show(snapshot, top.history)
        self.events.show(snapshot)
        self._show_detail()

    def _share(self, found: int) -> None:
        width, height = self.size
        snapshot = self.top.snapshot
        parts = share(
            width,
            height,
            gpus=len(snapshot.gpus),
            workers=self.table.count(),
            alerts=found,
            events=len(snapshot.events),
            below=int(self.filter.display) + int(self.status.display),
        )
        self.totals.tiny = parts.tiny
        self.totals.styles.height = parts.totals
        self.body.display = not parts.tiny
        self.keys.display = parts.keys > 0
        spaced = height >= 20
        for panel, lines in (
            (self.alerts, parts.alerts),
            (self.chart, parts.chart),
            (self.gpus, parts.gpus),
            (self.table, parts.workers),
            (self.events, parts.events),
        ):
            panel.display = lines > 0
            panel.styles.height = lines
        self.gpus.spaced = self.table.spaced = self.events.spaced = spaced
        self.body.set_class(bool(parts.detail_width), "wide")
        self.detail.display = bool(parts.detail_width or parts.detail_height)
        self.detail.styles.width = parts.detail_width or "1fr"
        self.detail.styles.height = "1fr" if parts.detail_width else (parts.detail_height or "1fr")

    def _show_detail(self) -> None:
        row = self.table.selected()
        if not self.detail.display:
            self.detail.journal.watch_unit(None, None)
            return
        snapshot = self.top.snapshot
        interval = snapshot.cluster.interval_seconds
        self.detail.show(row, self.top.history, snapshot.taken_at, interval)
        self.detail.journal.watch_unit(self.top.source, row.name if row else None)

    def show_plan(self) -> None:
        """The status line shows the plan while its dialog is hidden."""
        text = self.top.plan_status()
        if self.status.display != (text is not None):
            self.status.display = text is not None
            self.show()
        if text is not None:
            self.status.show(text)

    def targets(self) -> list[str]:
        """The marked rows, else the selected one."""
        return self.table.targets()

    def chosen(self) -> list[str]:
        """The marked rows alone."""
        return self.table.targets() if self.table.marked else []

    def on_row_selected(self, message: RowSelected) -> None:
        """The detail follows the cursor."""
        self._show_detail()

    def on_row_opened(self, message: RowOpened) -> None:
        """A click on the selected row."""
        self.action_detail()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        self.table.filter(event.value)
        self.show()

    def on_input_submitted(self) -> None:
        """Enter keeps the filter and goes back to the table."""
        self.action_keep_filter()

    def action_keep_filter(self) -> None:
        """Back to the table, whose heading shows the filter."""
        self.filter.display = False
        self.table.focus()
        self.show()

    def action_clear_filter(self) -> None:
        """No filter, no bar."""
        self.filter.value = ""
        self.table.filter("")
        self.action_keep_filter()

    def action_mark(self) -> None:
        """Mark the row under the cursor."""
        self.table.mark()

    def action_filter(self) -> None:
        """Type a filter."""
        self.filter.display = True
        self.filter.focus()
        self.show()

    def action_sort(self) -> None:
        """The next order."""
        self.table.next_sort()

    def action_detail(self) -> None:
        """The selected row, full screen."""
        row = self.table.selected()
        if row is not None:
            self.top.open_detail(row.name)

    def action_back(self) -> None:
        """Clear the filter, then the marks, then go back to the table."""
        if self.table.needle:
            self.action_clear_filter()
        elif not self.table.unmark():
            self.table.focus()

"""The main screen: everything that matters of a cluster at one glance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size
from textual.widgets import Input

from llamatop.app.messages import NodePointed, RowOpened, RowSelected
from llamatop.app.render import heat
from llamatop.app.render.alerts import alerts, grouped
from llamatop.app.render.layout import (
    SPACED,
    TALL,
    Layout,
    detail_width,
    many_cards,
    share,
    tiny,
)
from llamatop.app.rows import Row
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.chart import ChartPanel
from llamatop.app.widgets.detail import DetailPane
from llamatop.app.widgets.events import EventPanel
from llamatop.app.widgets.filter import FilterBar
from llamatop.app.widgets.gpus import GpuPanel, expected, with_cards
from llamatop.app.widgets.models import ModelPanel
from llamatop.app.widgets.status import KeyLine, StatusLine
from llamatop.app.widgets.totals import Alerts, Totals
from llamatop.app.widgets.workers import WorkerTable
from llamatop.model.figures import UNKNOWN


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

    # None shows the totals by model where they are worth it, else the person has decided.
    _models: bool | None = None
    _follows = False
    _shown_at: Size | None = None
    _placed: tuple[Layout, Size] | None = None

    def compose(self) -> ComposeResult:
        """Totals, faults, cards, workers, events, detail, status, keys."""
        palette = self.top.palette
        self.totals = Totals(palette, id="totals")
        self.alerts = Alerts(palette, id="alerts")
        self.chart = ChartPanel(palette, id="chart")
        self.models = ModelPanel(palette, id="models")
        self.gpus = GpuPanel(palette, id="gpus")
        self.table = WorkerTable(palette, id="workers")
        self.events = EventPanel(palette, id="events")
        self.detail = DetailPane(palette, id="detail")
        self.status = StatusLine(palette, id="status")
        self.keys = KeyLine(palette, id="keys")
        self.filter = FilterBar("filter: words, or state: node: model: engine:", id="filter")
        self.filter.display = self.status.display = self.detail.display = False
        self.totals.mode, self.keys.read_only = self.top.mode, self.read_only
        self.totals.snapshot = self.top.snapshot
        self.body = Container(
            Container(
                self.chart,
                self.gpus,
                self.models,
                self.table,
                self.filter,
                self.events,
                id="left",
            ),
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
        """Share the screen out anew; at the start Textual tells the same size several times."""
        if self._shown_at != self.size:
            self.show_plan()
            self.top.judging.seen()
            self.show()

    def show(self) -> None:
        """Draw the app's latest snapshot."""
        for _ in self.showing():
            pass

    def showing(self) -> Iterator[None]:
        """The same panel by panel."""
        if not self.children:
            return
        self._shown_at = self.size
        top = self.top
        snapshot = top.snapshot
        found = alerts(snapshot, top.changing())
        self.totals.snapshot = snapshot
        self.totals.found, self.alerts.found = found, grouped(found)
        self.totals.history = top.history.total_generation() if top.history else ()
        self.totals.silent_seconds = top.silent_seconds
        if tiny(*self.size):
            # The rest is out of sight, and drawn when there is room for it.
            self._place(Layout(tiny=True, totals=self.size.height, keys=0))
            self.totals.redraw()
            return
        self.totals.diagnosis = diagnosis = top.judging.diagnosis
        advice = found or (diagnosis is not None and diagnosis.findings)
        self.keys.wanted = frozenset({"advice"} if advice else ())
        yield
        self.table.show(snapshot)
        self.models.take(snapshot)
        yield
        self._share()
        for panel in (self.totals, self.alerts, self.table, self.models):
            yield
            yield from panel.redrawing()
        yield
        self.chart.show(snapshot, top.history)
        yield
        self.gpus.show(snapshot, top.history, self.table.order(), self._node())
        yield
        self.events.show(snapshot)
        yield
        self._show_detail()

    def _node(self) -> str | None:
        row = self.table.selected()
        return row.node if row is not None and self.table.by_node else None

    def _share(self) -> None:
        """Fold what does not fit, then give every panel its lines."""
        width, height = self.size
        snapshot = self.top.snapshot
        left = width - detail_width(width, height)
        cards, most = len(snapshot.gpus), None
        self.gpus.heat = None
        if many_cards(expected(snapshot), height):
            nodes = with_cards(self.table.order())
            # One cell less, for the scrollbar that may be needed.
            self.gpus.heat = heat.layout(nodes, left - 1, max(3, height // 4))
            cards, most = self.gpus.heat.lines(len(nodes)), max(3, height // 3)
        share_out = partial(
            share,
            width,
            height,
            gpus=cards,
            most_gpus=most,
            below=int(self.filter.display) + int(self.status.display),
        )
        # Folding must not come and go with faults and events.
        unfolded = share_out(workers=self.table.wanted(), alerts=0, events=0)
        self.table.suit(unfolded.workers - 2 - (height >= SPACED))
        models = len(self.models.listed)
        shown = self._models if self._models is not None else self.table.large and height >= TALL
        parts = share_out(
            workers=self.table.count(),
            alerts=self.alerts.wanted(width, height),
            events=len(snapshot.events),
            models=models if shown and models > 1 else 0,
        )
        out = set() if self.table.large or self.table.by_node else {"fold"}
        if models < 2 or not self.table.large:
            out.add("models")
        self.keys.left_out = frozenset({"back", *out})
        self._place(parts)
        self.keys.redraw()

    def _place(self, parts: Layout) -> None:
        if self._placed == (parts, self.size):
            return
        self._placed = (parts, self.size)
        height = self.size.height
        self.totals.tiny = parts.tiny
        self.totals.styles.height = parts.totals
        self.body.display = not parts.tiny
        self.keys.display = parts.keys > 0
        for panel, lines in (
            (self.alerts, parts.alerts),
            (self.chart, parts.chart),
            (self.gpus, parts.gpus),
            (self.models, parts.models),
            (self.table, parts.workers),
            (self.events, parts.events),
        ):
            panel.display = lines > 0
            panel.styles.height = lines
        spaced = height >= SPACED
        self.gpus.spaced = self.models.spaced = self.table.spaced = self.events.spaced = spaced
        self.body.set_class(bool(parts.detail_width), "wide")
        self.detail.display = bool(parts.detail_width or parts.detail_height)
        self.detail.styles.width = parts.detail_width or "1fr"
        self.detail.styles.height = "1fr" if parts.detail_width else (parts.detail_height or "1fr")
        if not parts.tiny and self.focused is None:
            # what was hidden meanwhile has lost the keys
            self.table.focus()

    def _show_detail(self) -> None:
        row = self.table.selected()
        if not self.detail.display:
            self.detail.journal.watch_unit(None, None)
            return
        snapshot = self.top.snapshot
        interval = snapshot.cluster.interval_seconds
        self.detail.show(row, self.top.history, snapshot.taken_at, interval)
        name = row.name if isinstance(row, Row) else None
        self.detail.journal.watch_unit(self.top.source, name)

    def show_plan(self) -> None:
        """The status line shows the plan while its dialog is hidden; the smallest has no room."""
        if not self.children:
            return
        text = self.top.plan_status()
        shown = text is not None and not tiny(*self.size)
        if self.status.display != shown:
            self.status.display = shown
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
        """The detail follows the cursor, once that has been painted."""
        self.gpus.point(self._node())
        self._follow_soon()

    def _follow_soon(self) -> None:
        if not self._follows:
            self._follows = True
            self.call_after_refresh(self._follow)

    def _follow(self) -> None:
        self._follows = False
        self._show_detail()

    def on_node_pointed(self, message: NodePointed) -> None:
        """A click on a node's cards."""
        self.table.select_node(message.node)

    def on_row_opened(self, message: RowOpened) -> None:
        """A click on the selected row."""
        self.action_detail()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        self.table.filter(event.value)
        self._rearranged()

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
        """The next order; the heat map has it too."""
        self.table.next_sort()
        self._rearranged()
        self.gpus.show(self.top.snapshot, self.top.history, self.table.order(), self._node())

    def action_fold_all(self) -> None:
        """Fold all nodes, or unfold them."""
        self.table.fold_all()

    def on_folded(self) -> None:
        """More lines or fewer."""
        self._rearranged()

    def action_models(self) -> None:
        """Show the totals by model, or hide them."""
        if len(self.models.listed) < 2:
            names = "".join(row.shown for row in self.models.listed) or UNKNOWN
            self.top.say(f"all workers serve one model: {names}")
            return
        self._models = not self.models.display
        self._rearranged()

    def _rearranged(self) -> None:
        """The same snapshot in other lines."""
        if tiny(*self.size):
            return
        self._share()
        self.models.redraw()
        self.table.redraw()
        self.gpus.point(self._node())

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

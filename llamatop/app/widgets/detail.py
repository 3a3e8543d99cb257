"""The selected worker in full, with its live journal below or beside."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container

from llamatop.app.nodes import Line, NodeRow
from llamatop.app.render import detail as render
from llamatop.app.render import node
from llamatop.app.render.palette import Palette
from llamatop.app.widgets.journal import JournalView
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import History


class Facts(Lines, can_focus=True):
    """Title, facts, slots and charts of one row."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._row: Line | None = None
        self._history: History | None = None
        self._now: datetime | None = None
        self._interval = 1.0
        self._made: list[Text] = []
        self.chart_height = 9

    def show(
        self,
        row: Line | None,
        history: History | None,
        now: datetime,
        interval_seconds: float,
    ) -> None:
        """Take the row as it is now; None empties the pane."""
        self._row, self._history, self._now = row, history, now
        self._interval = interval_seconds
        self._make()
        self.redraw()

    def count(self) -> int:
        """Everything there is to say."""
        return len(self._made)

    def line(self, place: int, width: int) -> Text:
        """The line at `place`."""
        return self._made[place]

    def on_resize(self) -> None:
        """Charts and wrapped values are made for a width; the height they need follows."""
        self._make()
        super().on_resize()
        if isinstance(self.parent, DetailPane):
            self.parent.share()

    def repalette(self, palette: Palette) -> None:
        """Take new colours."""
        super().repalette(palette)
        self._make()

    def remake(self) -> None:
        """Draw the same row again, as after a change of `chart_height`."""
        self._make()
        self.redraw()

    def _make(self) -> None:
        row, width, palette = self._row, self.drawn_width, self.palette
        self._made = []
        if row is None or self._now is None or width < 4:
            return
        if isinstance(row, NodeRow):
            blank = [Text()] if self.chart_height > 8 else []
            self._made = [*blank, node.title(row, width, palette), Text()]
            self._made += node.lines(row, self._history, width, palette, self._now)
            return
        made = [render.title(row, width, palette), Text()]
        if self.chart_height > 8:
            made.insert(0, Text())
        if row.worker is not None and self._history is not None and self.chart_height:
            generation = self._history.generation(row.name)
            prompt = self._history.prompt(row.name)
            made += render.history(
                generation, prompt, width, self.chart_height, self._interval, palette
            )
            made.append(Text())
        made += render.facts(row, width, palette, self._now)
        if row.worker is not None:
            made += render.slot_lines(row.worker.sample, palette)
        self._made = made


class DetailPane(Container):
    """Facts and journal; `beside` puts them next to each other."""

    DEFAULT_CSS = """
    DetailPane { layout: vertical; height: 1fr; width: 1fr; background: $background; }
    DetailPane > Facts { height: auto; width: 1fr; }
    DetailPane > JournalView { height: 1fr; width: 1fr; }
    DetailPane.beside { layout: horizontal; }
    """

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.facts = Facts(palette)
        self.journal = JournalView(palette)
        self.journal.brief = True

    def compose(self) -> ComposeResult:
        """Facts first."""
        yield self.facts
        yield self.journal

    def show(
        self,
        row: Line | None,
        history: History | None,
        now: datetime,
        interval_seconds: float,
    ) -> None:
        """Take the row as it is now; a node has no journal, all is for its facts."""
        self.journal.display = not isinstance(row, NodeRow)
        self.facts.show(row, history, now, interval_seconds)
        self.share()

    def on_resize(self) -> None:
        """The journal keeps at least a quarter."""
        self.share()

    def share(self) -> None:
        """Divide the height: the facts what they need, the journal the rest."""
        alone = not self.journal.display
        beside = self.size.width >= 100 and self.size.height < 30 and not alone
        self.set_class(beside, "beside")
        height = self.size.height
        charts = 0 if height < 16 else 7 if height < 30 else 12
        if charts != self.facts.chart_height:
            self.facts.chart_height = charts
            self.facts.remake()
        if beside or alone:
            self.facts.styles.height = "1fr"
        else:
            self.facts.styles.height = max(3, min(self.facts.count(), height - max(4, height // 3)))

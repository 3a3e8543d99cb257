"""One journal, full screen: follow, pause, search."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.journal import JournalView
from llamatop.app.widgets.lines import Lines
from llamatop.model.figures import count
from llamatop.model.text import plain


class _Heading(Lines):
    text = Text()

    def count(self) -> int:
        return 1

    def line(self, place: int, width: int) -> Text:
        return self.text


class _Search(Input):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "screen.end_search", show=False)]


class LogScreen(ClusterScreen):
    """`f` or space pauses and follows again, `/` searches, `n` and `N` go from hit to hit."""

    DEFAULT_CSS = """
    LogScreen { background: $background; layout: vertical; }
    LogScreen _Heading { height: 1; }
    LogScreen JournalView { height: 1fr; }
    LogScreen _Search { height: 1; border: none; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "hit(1)", show=False),
        Binding("N,shift+n", "hit(-1)", show=False),
    ]

    def __init__(self, name: str, read_only: bool) -> None:
        super().__init__(read_only)
        self.worker_name = name
        # The cluster's keys, read-only or not, mean something else here.
        for key, action in (("l", "back"), ("f", "pause"), ("space", "pause")):
            self._bindings.key_to_bindings.pop(key, None)
            self._bindings.bind(key, f"screen.{action}", show=False)

    def compose(self) -> ComposeResult:
        """A heading, the journal, the search bar, the keys."""
        palette = self.top.palette
        self.heading = _Heading(palette)
        self.journal = JournalView(palette)
        self.journal.heading_words = None
        self.journal.backlog = 2000
        self.journal.dated = True
        self.search = _Search(placeholder="search", compact=True)
        self.search.display = False
        self.keys = _Heading(palette)
        yield self.heading
        yield self.journal
        yield self.search
        yield self.keys

    def on_mount(self) -> None:
        """Start reading."""
        self.journal.focus()
        self.journal.watch_unit(self.top.source, self.worker_name)
        self.show()
        self.set_interval(0.25, self.show)

    def show(self) -> None:
        """Say whose journal this is and how it stands."""
        if not self.children:
            return
        palette, journal = self.top.palette, self.journal
        text = Text(" ", no_wrap=True)
        text.append(plain(self.worker_name), palette["brand"])
        text.append(f"   {count(journal.entry_count())} lines", palette["dim"])
        if journal.fault:
            text.append(f"   ✗ {plain(journal.fault)}", palette["event.error"])
        elif not journal.entry_count():
            text.append("   reading…", palette["dim"])
        elif journal.follow:
            text.append("   ● following", palette["health.good"])
        else:
            text.append("   ‖ paused", palette["event.warning"])
            if journal.held_count:
                text.append(f"   {count(journal.held_count)} more came", palette["dim"])
        if journal.needle:
            text.append("   ")
            text.append(f"/{plain(journal.needle)}", palette["match"])
        self.heading.text = text
        line = Text(" ", no_wrap=True)
        for key, word in (
            ("esc", "back"),
            ("f", "follow"),
            ("/", "search"),
            ("n N", "next hit"),
            ("g G", "ends"),
        ):
            line.append(key, palette["key"])
            line.append(f" {word}  ", palette["dim"])
        self.keys.text = line
        self.heading.redraw()
        self.keys.redraw()

    def targets(self) -> list[str]:
        """The one shown."""
        return [self.worker_name]

    def action_pause(self) -> None:
        """Stay where it is, or go on at the end."""
        self.journal.follow = not self.journal.follow
        if self.journal.follow:
            self.journal.scroll_end(animate=False)
        self.show()

    def action_filter(self) -> None:
        """`/` searches here."""
        self.search.display = True
        self.search.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search, and go on with n and N."""
        hits = self.journal.search(event.value)
        if event.value and not hits:
            self.notify(f"no line has {event.value!r}", markup=False, severity="warning")
        self.action_end_search()

    def action_end_search(self) -> None:
        """Back to the journal."""
        self.search.display = False
        self.journal.focus()
        self.show()

    def action_hit(self, by: int) -> None:
        """The next hit or the one before."""
        self.journal.next_hit(by)
        self.show()

    def action_back(self) -> None:
        """Clear the search, then leave."""
        if self.journal.needle:
            self.journal.search("")
            self.show()
        else:
            self.dismiss()

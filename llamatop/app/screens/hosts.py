"""The first question of the first run: which hosts, or the demo. Nothing is contacted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece, wrap
from llamatop.app.screens.asking import AskingScreen, Words
from llamatop.app.widgets.lines import Lines
from llamatop.model.text import plain


class _Offers(Lines):
    """The demo first, then the hosts that ssh knows; a cursor and marks."""

    def __init__(self, palette: Palette, hosts: Sequence[str]) -> None:
        super().__init__(palette)
        self.hosts = list(hosts)
        self.marked: set[str] = set()
        self.cursor = 0

    def count(self) -> int:
        return 1 + len(self.hosts)

    def line(self, place: int, width: int) -> Text:
        palette = self.palette
        text = Text(no_wrap=True)
        text.append(" ▸ " if place == self.cursor else "   ", palette["brand"])
        if place == 0:
            text.append("the demo", palette["text"])
            text.append("  an embedded cluster, nothing to set up", palette["dim"])
        else:
            host = self.hosts[place - 1]
            text.append("◆ " if host in self.marked else "  ", palette["marked"])
            text.append(plain(host), palette["text"])
        text.append(" " * max(0, width - text.cell_len))
        if place == self.cursor:
            text.stylize(palette["cursor"])
        return text

    def move(self, by: int) -> None:
        """Move the cursor and keep it in view."""
        self.cursor = max(0, min(self.count() - 1, self.cursor + by))
        top, height = round(self.scroll_y), max(1, self.size.height)
        if not top <= self.cursor < top + height:
            self.scroll_to(y=max(0, self.cursor - height // 2), animate=False)
        self.redraw()

    def chosen(self) -> tuple[str, ...]:
        """The marked hosts, else what the cursor is on; empty is the demo."""
        marked = tuple(host for host in self.hosts if host in self.marked)
        return marked or (() if self.cursor == 0 else (self.hosts[self.cursor - 1],))

    def mark(self) -> None:
        """Mark or unmark the host under the cursor."""
        if self.cursor > 0:
            self.marked ^= {self.hosts[self.cursor - 1]}
            self.move(1)

    def on_click(self, event: events.Click) -> None:
        place = event.y + round(self.scroll_y)
        if place < self.count():
            self.move(place - self.cursor)


_MOVES = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10}


class _Hosts(Input):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.quit", show=False)]

    async def _on_key(self, event: events.Key) -> None:
        # A binding would be run after the keys that were typed next: these move what they mark.
        offers = self.screen.query_one(_Offers)
        if event.key in _MOVES:
            offers.move(_MOVES[event.key])
        elif event.key == "space" and not self.value:
            # A space in an empty field can only mean the list below it.
            offers.mark()
        else:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()


class HostsScreen(AskingScreen):
    """Posts Chosen with the hosts; empty stands for the demo."""

    DEFAULT_CSS = """
    HostsScreen _Hosts { height: 1; border: none; padding: 0 1; margin: 0 1; background: $surface; }
    HostsScreen _Offers { height: 1fr; }
    """

    @dataclass
    class Chosen(Message):
        """These hosts shall be looked at."""

        hosts: tuple[str, ...]

    def __init__(self, palette: Palette, hosts: Sequence[str]) -> None:
        super().__init__(palette)
        self.offers = _Offers(palette, hosts)
        self.between = Words(palette, id="between")

    def middle(self) -> Sequence[Widget]:
        """A field for host names, and the list."""
        return (_Hosts(placeholder="node1 node2 …", compact=True), self.between, self.offers)

    def on_mount(self) -> None:
        """Typing goes to the field."""
        super().on_mount()
        self.query_one(_Hosts).focus()

    def show(self) -> None:
        """What this is, and what the keys do."""
        palette = self.palette
        width, low = max(10, self.size.width - 2), self.size.height < 20
        heading = piece(" llamatop ", palette["brand"])
        about = " sees llama.cpp clusters: GPUs, workers, slots, upstream"
        heading.append(about if width > 65 else " sees llama.cpp clusters", palette["dim"])
        asked = ["Which machines shall be looked at, by their ssh names? No other is contacted."]
        if not low:
            asked.insert(0, "There is no ./cluster.toml and none in your configuration directory.")
        lines = [piece(f" {part}", palette["text"]) for text in asked for part in wrap(text, width)]
        self.say_head((heading, Text(), *lines))
        known = "or choose, space marks several hosts" if self.offers.hosts else "or choose"
        above = [] if low else [Text()]
        self.between.styles.height = 1 + len(above)
        self.between.say([*above, piece(f" {known}", palette["heading"])])
        self.say_keys(("enter", "look"), ("↑↓", "move"), ("space", "mark"), ("esc", "quit"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What was typed and what was marked, else what the cursor is on."""
        typed = event.value.replace(",", " ").split()
        marked = [host for host in self.offers.hosts if host in self.offers.marked]
        hosts = tuple(dict.fromkeys([*typed, *marked])) if typed else self.offers.chosen()
        self.post_message(self.Chosen(hosts))

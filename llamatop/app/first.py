"""The first run: no cluster is named, so hosts to look at are offered, or the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.filter import NoColor
from textual.widgets import Input

from llamatop.app import remembered, themes
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import Lines
from llamatop.model.text import plain


@dataclass(frozen=True, slots=True)
class Choice:
    """What to look at: these ssh hosts, or the demo."""

    hosts: tuple[str, ...] = ()
    demo: bool = False


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

    def chosen(self) -> Choice:
        """The marked hosts, else what the cursor is on."""
        marked = [host for host in self.hosts if host in self.marked]
        if marked:
            return Choice(tuple(marked))
        return Choice(demo=True) if self.cursor == 0 else Choice((self.hosts[self.cursor - 1],))

    def mark(self) -> None:
        """Mark or unmark the host under the cursor."""
        if self.cursor > 0:
            self.marked ^= {self.hosts[self.cursor - 1]}
            self.move(1)

    def on_click(self, event: events.Click) -> None:
        place = event.y + round(self.scroll_y)
        if place < self.count():
            self.move(place - self.cursor)


class _Words(Lines):
    made: Sequence[Text] = ()

    def count(self) -> int:
        return len(self.made)

    def line(self, place: int, width: int) -> Text:
        return self.made[place]


class _Hosts(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.move(-1)", show=False),
        Binding("down", "app.move(1)", show=False),
        Binding("escape", "app.quit", show=False),
    ]

    async def _on_key(self, event: events.Key) -> None:
        # A space in an empty field can only mean the list below it.
        if event.key == "space" and not self.value:
            event.stop()
            event.prevent_default()
            self.app.query_one(_Offers).mark()
        else:
            await super()._on_key(event)


class FirstRunApp(App[Choice | None]):
    """Returns the Choice, None where the person left."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: $background; layout: vertical; }
    #top { height: 5; }
    _Hosts { height: 1; border: none; padding: 0 1; margin: 0 1; background: $surface; }
    #between { height: 2; }
    _Offers { height: 1fr; }
    #keys { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
    ]

    def __init__(self, hosts: Sequence[str], *, theme: str | None = None) -> None:
        super().__init__()
        loaded, self._fault = themes.load_or_fallback((theme, remembered.theme()), self.no_color)
        self.register_theme(loaded.textual)
        self.theme = loaded.textual.name
        self.palette = loaded.palette
        self.hosts = hosts
        if self.no_color:
            self._filters = [NoColor()]

    def compose(self) -> ComposeResult:
        """What this is, a field for host names, the offers, the keys."""
        palette = self.palette
        top = _Words(palette, id="top")
        heading = piece(" llamatop ", palette["brand"])
        heading.append(" sees llama.cpp clusters: GPUs, workers, slots, upstream", palette["dim"])
        where = "There is no ./cluster.toml and none in your configuration directory."
        top.made = (
            heading,
            Text(),
            piece(f" {where}", palette["text"]),
            piece(" Which machines shall be looked at, by their ssh names?", palette["text"]),
        )
        yield top
        yield _Hosts(placeholder="node1 node2 …", compact=True)
        between = _Words(palette, id="between")
        known = "or choose, space marks several hosts" if self.hosts else "or choose"
        between.made = (Text(), piece(f" {known}", palette["heading"]))
        yield between
        yield _Offers(palette, self.hosts)
        keys = _Words(palette, id="keys")
        line = Text(" ", no_wrap=True)
        for key, word in (("enter", "look"), ("↑ ↓", "choose"), ("space", "mark"), ("esc", "quit")):
            line.append(key, palette["key"])
            line.append(f" {word}   ", palette["dim"])
        keys.made = (line,)
        yield keys

    def on_mount(self) -> None:
        """Typing goes to the field."""
        self.query_one(_Hosts).focus()
        if self._fault:
            self.notify(self._fault, severity="warning", markup=False)

    def action_move(self, by: int) -> None:
        """Move through the offers."""
        self.query_one(_Offers).move(by)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What was typed, else what was chosen."""
        typed = tuple(event.value.replace(",", " ").split())
        self.exit(Choice(typed) if typed else self.query_one(_Offers).chosen())

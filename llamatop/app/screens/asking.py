"""The frame of the first run's screens: what is asked, something in the middle, the keys."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from llamatop.app.render.palette import Palette
from llamatop.app.widgets.lines import Lines


class Words(Lines):
    """Lines that it is given, as high as they are many; drawn for a width that may be small."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self.made: Sequence[Text] = ()

    def count(self) -> int:
        """As many as it was given."""
        return len(self.made)

    def line(self, place: int, width: int) -> Text:
        """One of them."""
        return self.made[place]

    def say(self, made: Sequence[Text]) -> None:
        """Take the lines."""
        self.made = made
        self.redraw()


class AskingScreen(Screen[None]):
    """Head, middle and keys; `show` is called whenever they have to be drawn anew."""

    DEFAULT_CSS = """
    AskingScreen { layout: vertical; background: $background; }
    AskingScreen #keys { height: 1; }
    """

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.palette = palette
        self.head = Words(palette, id="head")
        self.keys = Words(palette, id="keys")

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.head
        yield from self.middle()
        yield self.keys

    def middle(self) -> Sequence[Widget]:
        """What stands between the head and the keys."""
        return ()

    def on_mount(self) -> None:
        """Draw for the first time."""
        self.show()

    def on_resize(self) -> None:
        """Lines are wrapped for a width."""
        self.show()

    def show(self) -> None:
        """Draw it as it is now."""

    def say_head(self, lines: Sequence[Text]) -> None:
        """Take the head's lines; where the screen is low the empty ones go."""
        kept = [line for line in lines if line.plain or self.size.height >= 20]
        self.head.styles.height = len(kept)
        self.head.say(kept)

    def say_keys(self, *pairs: tuple[str, str]) -> None:
        """Keys and their words, with as much air as there is room for."""
        for gap in ("   ", "  ", " "):
            text = Text(" ", no_wrap=True)
            for place, (key, word) in enumerate(pairs):
                text.append((gap if place else "") + key, self.palette["key"])
                text.append(f" {word}", self.palette["dim"])
            if text.cell_len <= self.size.width:
                break
        self.keys.say([text])

"""The frame of every dialog: lines in a box over the live dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import ModalScreen

from llamatop.app.render.palette import Palette
from llamatop.app.widgets.lines import Lines

if TYPE_CHECKING:
    from llamatop.app.app import LlamatopApp


class Body(Lines, can_focus=True):
    """Lines that the dialog gives it; scrolls when there are more than fit."""

    DEFAULT_CSS = "Body { background: $surface; scrollbar-background: $surface; }"

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette)
        self.made: list[Text] = []

    def count(self) -> int:
        """As many as it was given."""
        return len(self.made)

    def line(self, place: int, width: int) -> Text:
        """One of them."""
        return self.made[place]

    def show(self, made: list[Text]) -> None:
        """Take the lines."""
        self.made = made
        self.redraw()


class Dialog(ModalScreen[None]):
    """A title, a body and a line of keys, as tall as its body where that fits."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 55%; }
    Dialog > Container {
        width: 100%; max-width: 110; height: auto; max-height: 100%;
        background: $surface; padding: 1 1 0 1; border-left: outer $primary;
    }
    Dialog Body { width: 1fr; }
    Dialog .line { height: 1; }
    Dialog.small > Container { padding: 0; }
    """

    def compose(self) -> ComposeResult:
        """Title, body, keys."""
        palette = self.top.palette
        self.title_line = Body(palette)
        self.body = Body(palette)
        self.foot = Body(palette)
        for line in (self.title_line, self.foot):
            line.can_focus = False
            line.add_class("line")
        yield Container(self.title_line, self.body, self.foot)

    @property
    def top(self) -> LlamatopApp:
        """The app."""
        return cast("LlamatopApp", self.app)

    def on_mount(self) -> None:
        """Draw for the first time."""
        self.body.focus()
        self.show()

    def on_resize(self) -> None:
        """Lines are wrapped for a width."""
        self.show()

    def show(self) -> None:
        """Draw it as it is now."""
        if not self.children or not self.body.is_attached:
            return
        small = self.size.height < 16
        self.set_class(small, "small")
        width = min(110, self.size.width) - (1 if small else 3)
        made = self.lines(max(10, width))
        self.title_line.show([self.heading()])
        self.body.show(made)
        self.foot.show([self.footing()])
        frame = 2 if small else 3
        self.body.styles.height = max(1, min(len(made), self.size.height - frame))

    def repalette(self) -> None:
        """Take the app's new colours."""
        for panel in self.query(Lines):
            panel.repalette(self.top.palette)
        self.show()

    def heading(self) -> Text:
        """The title."""
        return Text()

    def lines(self, width: int) -> list[Text]:
        """The body."""
        return []

    def footing(self) -> Text:
        """The keys."""
        return Text()

    def hints(self, *pairs: tuple[str, str]) -> Text:
        """Keys and words for the foot."""
        text = Text(" ", no_wrap=True)
        for key, word in pairs:
            text.append(key, self.top.palette["key"])
            text.append(f" {word}   ", self.top.palette["dim"])
        return text

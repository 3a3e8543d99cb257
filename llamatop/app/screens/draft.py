"""The cluster file as it would be written: its text and its place first, then the writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit_middle, piece, wrap
from llamatop.app.screens.asking import AskingScreen
from llamatop.app.screens.dialog import Body
from llamatop.errors import LlamatopError
from llamatop.model.cluster import ClusterSnapshot

if TYPE_CHECKING:
    from llamatop.app.first import Scout


class DraftScreen(AskingScreen):
    """Writes on enter and posts Written; what is in the way is said and nothing is written."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "write", show=False),
        Binding("tab", "elsewhere", show=False, priority=True),
        Binding("escape", "back", show=False),
    ]
    DEFAULT_CSS = "DraftScreen Body { height: 1fr; background: $background; }"

    @dataclass
    class Written(Message):
        """The file is there."""

        place: Path

    def __init__(self, palette: Palette, snapshot: ClusterSnapshot, scout: Scout) -> None:
        super().__init__(palette)
        self._snapshot = snapshot
        self._scout = scout
        self._choice = 0
        self._fault: str | None = None
        self.body = Body(palette)

    @property
    def place(self) -> Path:
        """Where it is to lie."""
        return self._scout.places[self._choice]

    def middle(self) -> Sequence[Widget]:
        """The file's text."""
        return (self.body,)

    def on_mount(self) -> None:
        """The keys scroll."""
        super().on_mount()
        self.body.focus()

    def action_write(self) -> None:
        """Write what is shown, where it is said."""
        try:
            self._scout.write(self.place, self._text())
        except LlamatopError as error:
            self._fault = str(error)
            self.show()
        else:
            self.post_message(self.Written(self.place))

    def action_elsewhere(self) -> None:
        """The next place."""
        self._choice = (self._choice + 1) % len(self._scout.places)
        self._fault = None
        self.show()

    def action_back(self) -> None:
        """To what was found."""
        self.dismiss()

    def show(self) -> None:
        """Its place in the head, its text below."""
        palette, width = self.palette, max(20, self.size.width)
        head = piece(" write ", palette["heading"])
        head.append(fit_middle(_short(self.place), width - 8).rstrip(), palette["brand"])
        lines = [head]
        if self._fault is not None:
            lines += [
                piece(f" {part}", palette["health.bad"]) for part in wrap(self._fault, width - 2)
            ]
        self.say_head((*lines, Text()))
        text = [self._line(line) for line in self._text().splitlines()]
        wrapped = (line.wrap(self.app.console, width - 2, no_wrap=False) for line in text)
        self.body.show([part for parts in wrapped for part in parts])
        other = self._scout.places[(self._choice + 1) % len(self._scout.places)]
        wide = width >= 60
        keys = [("enter", "write and open" if wide else "write"), ("esc", "back")]
        if other != self.place:
            keys.insert(1, ("tab", _short(other) if wide else "elsewhere"))
        self.say_keys(*keys)

    def _text(self) -> str:
        return self._scout.text(self._snapshot, self.place)

    def _line(self, line: str) -> Text:
        said, mark, comment = line.partition("#") if line.startswith("#") else line.partition("  #")
        text = piece(f" {said}", self.palette["text"])
        text.append(mark + comment, self.palette["dim"])
        return text


def _short(place: Path) -> str:
    try:
        return f"~/{place.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(place) if place.is_absolute() else f"./{place}"

"""Every key on one page."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.actions import keys
from llamatop.app.needle import HELP as FILTER_WORDS
from llamatop.app.render.words import piece
from llamatop.app.screens.dialog import Dialog

_GROUPS = {"change": "change the cluster", "look": "look", "move": "move", "general": "llamatop"}
_LEGEND = (
    ("● ◐ ○", "slot generates · reads its prompt · is idle"),
    ("╮ ╯", "one worker spans these cards"),
    ("· ▁▃▅█", "a card each: idle to busy; ! is hot, ✗ lost, ? old"),
    ("+ −", "a node folded, unfolded; what is done to it is done to its workers"),
    ("–", "not known, which is not zero"),
    ("? 14s old", "no news from the node for that long; its figures are dimmed"),
)


class HelpScreen(Dialog):
    """Closes with any of esc, ?, q and enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def heading(self) -> Text:
        """The title."""
        text = piece(" keys", self.top.palette["brand"])
        if self.top.mode:
            text.append(f"   {self.top.mode}: nothing can be changed", self.top.palette["dim"])
        return text

    def lines(self, width: int) -> list[Text]:
        """Keys by group, then what the marks mean."""
        palette = self.top.palette
        made: list[Text] = []
        for heading, others in self.top.more_keys().items():
            made += [Text(), piece(f" {heading}", palette["heading"])]
            for other, meaning in others:
                text = piece(f" {other:<10}", palette["key"])
                text.append(meaning, palette["text"])
                made.append(text)
        for group, title in _GROUPS.items():
            offered = keys(self.top.read_only, practice=self.top.switches is not None)
            found = [key for key in offered if key.group == group]
            if found:
                made += [Text(), piece(f" {title}", palette["heading"])]
            for key in found:
                text = piece(f" {key.shown:<10}", palette["key"])
                text.append(key.text, palette["text"])
                made.append(text)
        for title, listed in (("words of the filter", FILTER_WORDS), ("marks", _LEGEND)):
            made += [Text(), piece(f" {title}", palette["heading"])]
            for mark, meaning in listed:
                text = piece(f" {mark:<10}", palette["key"])
                text.append(meaning, palette["text"])
                made.append(text)
        return [*made, Text()]

    def footing(self) -> Text:
        """How to leave."""
        return self.hints(("esc", "close"), ("j k", "scroll"))

    def action_scroll(self, by: int) -> None:
        """Scroll the body."""
        self.body.scroll_relative(y=by, animate=False)

"""Everything that is wrong now, in full sentences."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.render.alerts import alerts, lines
from llamatop.app.render.words import piece
from llamatop.app.screens.dialog import Dialog

_ENOUGH = 10_000


class FaultsScreen(Dialog):
    """Follows the snapshots while it is open; closes with esc, a, q and enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,a,q,enter", "dismiss", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def heading(self) -> Text:
        """The title."""
        return piece(" what is wrong", self.top.palette["brand"])

    def lines(self, width: int) -> list[Text]:
        """Every alert, wrapped."""
        found = alerts(self.top.snapshot, self.top.changing())
        if not found:
            return [Text(), piece(" nothing", self.top.palette["health.good"]), Text()]
        return [Text(), *lines(found, width, _ENOUGH, self.top.palette), Text()]

    def footing(self) -> Text:
        """How to leave."""
        return self.hints(("esc", "close"), ("j k", "scroll"))

    def action_scroll(self, by: int) -> None:
        """Scroll the body."""
        self.body.scroll_relative(y=by, animate=False)

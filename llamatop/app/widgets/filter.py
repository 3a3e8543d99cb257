"""The line that a filter is typed in."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class FilterBar(Input):
    """One line to type a filter in; esc clears it, enter keeps it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.clear_filter", show=False),
        Binding("down", "screen.keep_filter", show=False),
    ]

    def __init__(self, placeholder: str, id: str | None = None) -> None:
        super().__init__(id=id, placeholder=placeholder, compact=True)
        self.cursor_blink = False

"""A question for the time to go to in a replay."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input

from llamatop.collect.source import Position

HINT = "go to: 14:05, 14:05:30, +5m, -30s, 50%, end"
_CLOCK = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d))?\Z")
_BY = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*([smh]?)\Z")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class SeekScreen(ModalScreen[datetime | float | None]):
    """Gives the time, or a share of the whole, whose end may not be known yet.

    None where the person left or it means none. `position` gives where the replay is.
    """

    DEFAULT_CSS = """
    SeekScreen { align: left bottom; background: $background 0%; }
    SeekScreen > Input {
        height: 1; border: none; padding: 0 1; width: 100%; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", show=False)]

    def __init__(self, position: Callable[[], Position]) -> None:
        super().__init__()
        self._position = position

    def compose(self) -> ComposeResult:
        """One line at the bottom."""
        field = Input(placeholder=HINT, compact=True)
        field.cursor_blink = False
        yield field

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go there; what cannot be understood stays to be mended."""
        wanted = event.value.strip()
        part = share(wanted)
        to = meant(wanted, self._position()) if part is None else part
        if to is None and wanted:
            self.notify(f"{wanted!r} is no time; {HINT}", severity="warning", markup=False)
        else:
            self.dismiss(to)


def share(text: str) -> float | None:
    """The share of the whole, 0 to 1, that `text` means; None where it means none."""
    text = text.strip().lower()
    if text in ("end", "begin", "start"):
        return 1.0 if text == "end" else 0.0
    found = _SHARE.match(text)
    return min(100.0, float(found[1])) / 100 if found else None


def meant(text: str, position: Position) -> datetime | None:
    """The moment that `text` means, by the clock of this machine; None where it means none.

    A time of day is the first one from the recording's beginning on.
    """
    text = text.strip().lower()
    if by := _BY.match(text):
        seconds = float(by[2]) * _SECONDS[by[3]]
        return position.at + timedelta(seconds=seconds if by[1] == "+" else -seconds)
    clock = _CLOCK.match(text)
    if clock is None:
        return None
    first = position.first.astimezone()
    hour, minute, second = int(clock[2]), int(clock[3]), int(clock[4] or 0)
    try:
        day = datetime.fromisoformat(clock[1]) if clock[1] else first
        at = day.replace(
            hour=hour, minute=minute, second=second, microsecond=0, tzinfo=first.tzinfo
        )
    except ValueError:
        return None
    # The frame of a second may be taken anywhere in it.
    at += timedelta(seconds=0.999)
    if clock[1] is None and at < first:
        at += timedelta(days=1)
    return at

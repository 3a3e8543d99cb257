"""A question for the time to go to in a replay."""

from __future__ import annotations

import re
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


class SeekScreen(ModalScreen[datetime | None]):
    """Gives the time, None where the person left or it means none."""

    DEFAULT_CSS = """
    SeekScreen { align: left bottom; background: $background 0%; }
    SeekScreen > Input {
        height: 1; border: none; padding: 0 1; width: 100%; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", show=False)]

    def __init__(self, position: Position) -> None:
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
        at = meant(wanted, self._position)
        if at is None and wanted:
            self.notify(f"{wanted!r} is no time; {HINT}", severity="warning", markup=False)
        else:
            self.dismiss(at)


def meant(text: str, position: Position) -> datetime | None:
    """The moment that `text` means, by the clock of this machine; None where it means none.

    A time of day is the first one from the recording's beginning on.
    """
    text = text.strip().lower()
    if text in ("end", "begin", "start"):
        return position.last if text == "end" else position.first
    if share := _SHARE.match(text):
        part = min(100.0, float(share[1])) / 100
        return position.first + (position.last - position.first) * part
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

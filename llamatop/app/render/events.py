"""What happened, newest last, one line an event."""

from __future__ import annotations

from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces
from llamatop.model.cluster import Event
from llamatop.model.text import plain

_MARKS = {"info": "·", "warning": "▲", "error": "✗"}


def line(event: Event, width: int, palette: Palette) -> Text:
    """Local time, a mark, whom it concerns, and what happened."""
    role = f"event.{event.severity}"
    text = Pieces(" ")
    if width >= 36:
        text.append(event.at.astimezone().strftime("%H:%M:%S "), palette["faint"])
    text.append(f"{_MARKS[event.severity]} ", palette[role])
    where = event.worker or event.node
    if where:
        text.append(plain(where) + "  ", palette["node.name"])
    text.append(plain(event.text), palette["dim" if event.severity == "info" else "text"])
    return text

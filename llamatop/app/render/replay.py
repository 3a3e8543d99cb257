"""The line that says that this is a replay, and where in it."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.collect.source import Position

_PLAYING, _STANDING, _ENDED = "▶", "‖", "■"
_KEYS = (("space", "play"), (", .", "step"), ("< >", "minute"), ("[ ]", "speed"), ("T", "time"))
_SHORTEST_BAR = 8


def line(position: Position, width: int, palette: Palette) -> Text:
    """One line of at most `width` cells; the mark and the time never leave, the keys go first."""
    mark = _ENDED if position.ended else _STANDING if position.paused else _PLAYING
    at = position.at.astimezone()
    same_day = at.date() == position.first.astimezone().date() == position.last.astimezone().date()
    head = Text(no_wrap=True)
    head.append(f" {mark} replay", palette["brand"])
    state = _state(position)
    day = piece(f"  {at:%Y-%m-%d}", palette["text"])
    clock = piece(f"  {at:%H:%M:%S}", palette["text"])
    passed = clock_words((position.at - position.first).total_seconds())
    whole = clock_words((position.last - position.first).total_seconds())
    place = piece(f"  {passed} of {whole}", palette["dim"])
    speed = piece(f"  ×{position.speed:g}", palette["text" if position.speed != 1 else "dim"])
    said = piece(f"  {state}" if state else "", palette["event.warning"])
    keys = Text("  ")
    for key, word in _KEYS:
        keys.append(f" {key}", palette["key"])
        keys.append(f" {word}", palette["dim"])
    full = [head, day, clock, said, place, speed]
    for parts in (
        [*full, keys],
        full,
        [head, day if not same_day else Text(), clock, said, place, speed],
        [head, clock, said, speed],
        [head, clock, said],
        [head, clock],
        [clock],
    ):
        used = sum(cell_len(part.plain) for part in parts)
        if used + 1 <= width:
            break
    room = width - used - 3
    if room >= _SHORTEST_BAR and place in parts:
        parts.insert(parts.index(place), bar(position, min(room, 40), palette))
    return Text(no_wrap=True).join(parts)


def bar(position: Position, width: int, palette: Palette) -> Text:
    """How far it is, in `width` cells and the gap before them."""
    whole = (position.last - position.first).total_seconds()
    share = (position.at - position.first).total_seconds() / whole if whole > 0 else 1.0
    done = round(share * (width - 1))
    text = piece("  " + "━" * done, palette["brand"])
    text.append("●", palette["brand"])
    text.append("─" * (width - 1 - done), palette["gpu.track"])
    return text


def clock_words(seconds: float) -> str:
    """12:31, or 1:00:00 from an hour on."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _state(position: Position) -> str:
    if position.seeking:
        return "reading…"
    if position.ended:
        return "the end" if position.complete else "it was cut off here"
    return ""

"""Bars, sparklines, charts and slot marks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.color import Color, blend_rgb
from rich.style import Style
from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces
from llamatop.model.figures import UNKNOWN
from llamatop.model.observed import Slot

_LEFT = " ▏▎▍▌▋▊▉█"
_UP = " ▁▂▃▄▅▆▇█"
BUSY, PROMPT, IDLE = "●", "◐", "○"


@lru_cache(4096)
def bar(percent: float | None, width: int, palette: Palette) -> Text:
    """A bar of `width` cells, filled by `percent` in eighths of a cell; empty where unknown."""
    track = palette["gpu.track"]
    # Spaces on a ground, so that a copied bar ends where it ends.
    empty, ground = ("·", track) if palette.plain else (" ", Style(bgcolor=track.color))
    eighths = 0 if percent is None else round(max(0.0, min(100.0, percent)) / 100 * width * 8)
    full, part = divmod(eighths, 8)
    text = Pieces()
    for cell in range(full):
        text.append("█", gradient(palette, (cell + 1) / width))
    if part:
        style = gradient(palette, (full + 1) / width)
        text.append(_LEFT[part], style + Style(bgcolor=track.color))
        full += 1
    text.append(empty * (width - full), ground)
    return text


@lru_cache(256)
def gradient(palette: Palette, share: float) -> Style:
    """The colour of a card that is busy by `share`, 0 to 1."""
    low, high = palette["gpu.low"].color, palette["gpu.busy"].color
    if palette.plain or low is None or high is None or low.is_default or high.is_default:
        return palette["gpu.busy"]
    return Style(
        color=Color.from_triplet(blend_rgb(low.get_truecolor(), high.get_truecolor(), share))
    )


@lru_cache(256)
def shade(palette: Palette, role: str, share: float) -> Style:
    """The role's colour, half way to the track at `share` 0, whole at 1: charts glow on top."""
    color, low = palette[role].color, palette["gpu.track"].color
    if palette.plain or color is None or low is None or color.is_default or low.is_default:
        return palette[role]
    mixed = blend_rgb(low.get_truecolor(), color.get_truecolor(), 0.45 + 0.55 * share)
    return Style(color=Color.from_triplet(mixed))


def sparkline(values: Sequence[float | None], width: int, top: float | None = None) -> str:
    """The last `width` values as eighth blocks, newest at the right.

    `top` is the value of a full block, the largest one shown where None. Unknown is a dot, and
    anything above zero is at least one eighth, so that a trickle is not nothing.
    """
    shown = list(values[-width:]) if width > 0 else []
    known = [value for value in shown if value is not None]
    ceiling = top if top is not None else max(known, default=0.0)
    marks = "".join("·" if value is None else _UP[_eighth(value, ceiling, 8)] for value in shown)
    return marks.rjust(width)


def _eighth(value: float, ceiling: float, most: int) -> int:
    if value <= 0 or ceiling <= 0:
        return 0
    return most if value >= ceiling else max(1, round(value / ceiling * most))


def chart(values: Sequence[float | None], width: int, height: int, top: float) -> list[str]:
    """`height` lines of an area chart, highest first, newest value at the right edge."""
    shown = list(values[-width:])
    levels = [0 if value is None else _eighth(value, top, height * 8) for value in shown]
    lines = []
    for row in range(height - 1, -1, -1):
        cells = "".join(_UP[max(0, min(8, level - row * 8))] for level in levels)
        lines.append(cells.rjust(width))
    return lines


def ceiling(values: Sequence[float | None]) -> float:
    """A round number not below the largest value: 1, 2 or 5 times a power of ten; at least 1."""
    largest = max((value for value in values if value is not None), default=0.0)
    step = 1.0
    while step * 10 < largest:
        step *= 10
    for factor in (1, 2, 5, 10):
        if largest <= step * factor:
            return step * factor
    return step * 10


def slots(
    busy: int | None,
    total: int | None,
    each: Sequence[Slot] | None,
    width: int,
    palette: Palette,
) -> Text:
    """Marks and `busy/total`, exactly `width` cells: ● generates, ◐ reads its prompt, ○ is idle.

    Where a mark for each does not fit, or no slot is known, the numbers stand alone.
    """
    numbers = f"{UNKNOWN if busy is None else busy}/{UNKNOWN if total is None else total}"
    text = Pieces()
    marks = _marks(busy, total, each)
    if marks and len(marks) + 1 + len(numbers) <= width:
        for mark, role in marks:
            text.append(mark, palette[role])
        text.append(" ")
    role = "dim" if busy is None else "text" if busy else "dim"
    text.append(numbers, palette[role])
    if len(text) < width:
        text.append(" " * (width - len(text)))
    text.truncate(width)
    return text


def _marks(
    busy: int | None, total: int | None, each: Sequence[Slot] | None
) -> list[tuple[str, str]]:
    if each and total == len(each):
        return [_mark(slot) for slot in each]
    if busy is None or total is None:
        return []
    return [(BUSY, "slot.busy")] * busy + [(IDLE, "slot.idle")] * (total - busy)


def _mark(slot: Slot) -> tuple[str, str]:
    if not slot.busy:
        return (IDLE, "slot.idle")
    if not slot.generated_tokens:
        return (PROMPT, "slot.prompt")
    return (BUSY, "slot.busy")

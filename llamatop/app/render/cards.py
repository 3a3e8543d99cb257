"""Several cards as one cell: how busy they are, their memory, the warmest."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from llamatop.app.render import heat
from llamatop.app.render.gpus import hot
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces, fit, piece
from llamatop.model.cluster import GpuView
from llamatop.model.figures import UNKNOWN, degrees, gibibytes, percent

NARROW, MEAN, SPREAD = 4, 5, 7


def load(
    gpus: Sequence[GpuView], width: int, palette: Palette, *, strip: int = 0, stale: bool = False
) -> Text:
    """A cell a card where `strip` gives room for it, the mean, and the lowest and highest."""
    text = Pieces()
    if strip:
        text.append_text(heat.cells(gpus, stale, palette, strip))
        text.append(" ")
    known = [
        gpu.sample.utilization_percent
        for gpu in gpus
        if gpu.sample.utilization_percent is not None and gpu.sample.fault is None
    ]
    mean = sum(known) / len(known) if known else None
    room = min(MEAN, width - len(text))
    words = percent(mean) if room >= MEAN else percent(mean).replace(" ", "")
    text.append(fit(words, room, True), palette["text" if known else "dim"])
    if width - len(text) >= SPREAD:
        spread = f" {min(known):.0f}–{max(known):.0f}" if len(known) > 1 else ""
        text.append(fit(spread, SPREAD), palette["dim"])
    text.append(" " * max(0, width - len(text)))
    return text


def memory(gpus: Sequence[GpuView], width: int, palette: Palette) -> Text:
    """The memory in use of all of them together."""
    used = [gpu.sample.memory_used_bytes for gpu in gpus]
    total = [gpu.sample.memory_total_bytes for gpu in gpus]
    known = [value for value in used if value is not None]
    whole = [value for value in total if value is not None]
    words = gibibytes(sum(known) if known else None, sum(whole) if whole else None)
    return piece(fit(words, width, True), palette["gpu.memory" if known else "dim"])


def temperature(gpus: Sequence[GpuView], width: int, palette: Palette) -> Text:
    """The warmest of them, with `!` where one is too warm or slowed down."""
    known = [gpu.sample.temperature_celsius for gpu in gpus]
    warm = any(map(hot, gpus))
    top = max((value for value in known if value is not None), default=None)
    words = UNKNOWN if top is None else degrees(top)
    return piece(
        fit(words + ("!" if warm else " "), width, True), palette["gpu.hot" if warm else "dim"]
    )

"""The cards: how busy each is now and was, with a bracket where one worker spans several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.bars import bar, sparkline
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces, fit, fit_middle
from llamatop.model.cluster import GpuView
from llamatop.model.figures import UNKNOWN, degrees, gibibytes, percent, watts

HOT_CELSIUS = 85
_HARMFUL = frozenset(
    {
        "hardware_slowdown",
        "hardware_thermal_slowdown",
        "software_thermal_slowdown",
        "hardware_power_brake_slowdown",
    }
)


class GpuLayout(Struct, frozen=True):
    """Widths in cells; 0 leaves the part out."""

    node: int
    bar: int
    who: int
    spark: int
    memory: int
    power: int
    temperature: int
    card: int


def layout(gpus: Sequence[GpuView], width: int) -> GpuLayout:
    """What fits into `width` cells; the bar and the number never leave, the card's name first."""
    node = min(
        max((cell_len(gpu.node) for gpu in gpus), default=4),
        16 if width >= 100 else 12 if width >= 70 else 8,
    )
    who = max((cell_len(_who(gpu)) for gpu in gpus), default=0)
    card = max((cell_len(gpu.sample.name or "") for gpu in gpus), default=0)
    parts = {
        "who": min(max(who + 1, 6), 40 if width >= 120 else 24),
        "memory": 11,
        "temperature": 5,
        "power": 9 if width >= 100 else 5,
        "card": min(card + 2, 24) if width >= 130 else 0,
    }
    # Node, index, gaps, percentage and bracket always stand.
    room = width - (1 + node + 4 + 6 + 2)
    for leaving, least in (
        ("card", 40),
        ("power", 24),
        ("who", 16),
        ("temperature", 12),
        ("memory", 8),
    ):
        if sum(parts.values()) + least > room:
            parts[leaving] = 0
    room -= sum(parts.values())
    bar_width = min(30, room if room < 18 else max(10, room // 2))
    spark = room - bar_width - 1
    if spark < 6:
        bar_width, spark = max(1, min(60, room)), 0
    return GpuLayout(node=node, bar=bar_width, spark=min(spark, 120), **parts)


def line(
    gpus: Sequence[GpuView],
    place: int,
    parts: GpuLayout,
    history: Sequence[float | None],
    palette: Palette,
    *,
    stale: bool = False,
) -> Text:
    """The card at `place`; the node's name stands on its first card only, or its age when stale."""
    gpu = gpus[place]
    sample = gpu.sample
    first = place == 0 or gpus[place - 1].node != gpu.node
    if stale:
        palette = palette.faded
    text = Pieces(" ")
    text.append(fit_middle(gpu.node if first else "", parts.node), palette["node.name"])
    index = UNKNOWN if sample.index is None else str(sample.index)
    text.append(f" {index:>2} ", palette["text"])
    if sample.fault:
        return _faulty(text, gpu, parts, palette)
    text.append_text(bar(sample.utilization_percent, parts.bar, palette))
    known = sample.utilization_percent is not None
    role = "text" if known else "dim"
    text.append(fit(percent(sample.utilization_percent), 6, True), palette[role])
    _mark(text, gpus, place, parts, palette)
    if parts.spark:
        text.append(" ")
        text.append(sparkline(history, parts.spark, 100.0), palette["gpu.history"])
    if parts.memory:
        words = gibibytes(sample.memory_used_bytes, sample.memory_total_bytes)
        text.append(fit(words, parts.memory, True), palette["gpu.memory"])
    if parts.power:
        limit = sample.power_limit_watts if parts.power >= 9 else None
        text.append(fit(watts(sample.power_watts, limit), parts.power, True), palette["dim"])
    if parts.temperature:
        warm = hot(gpu)
        words = degrees(sample.temperature_celsius) + ("!" if warm else " ")
        text.append(fit(words, parts.temperature, True), palette["gpu.hot" if warm else "dim"])
    if parts.card:
        text.append(fit("  " + (sample.name or UNKNOWN), parts.card), palette["faint"])
    return text


def _faulty(text: Text, gpu: GpuView, parts: GpuLayout, palette: Palette) -> Text:
    text.append("✗ ", palette["gpu.fault"])
    spark = parts.spark + 1 if parts.spark else 0
    room = parts.bar + parts.who + spark + parts.memory + parts.power + parts.temperature
    text.append(fit(gpu.sample.fault or "", max(4, room + 6)), palette["gpu.fault"])
    return text


def _mark(
    text: Text, gpus: Sequence[GpuView], place: int, parts: GpuLayout, palette: Palette
) -> None:
    gpu = gpus[place]
    above = place > 0 and together(gpus[place - 1], gpu)
    below = place + 1 < len(gpus) and together(gpu, gpus[place + 1])
    ends = {(True, True): "┤", (True, False): "╯", (False, True): "╮"}
    bracket = ends.get((above, below), "·" if _label(gpu) else " ")
    text.append(f" {bracket}", palette["gpu.split"])
    if not parts.who:
        return
    words = fit(" " + _who(gpu), parts.who)
    text.append(words, palette["text" if gpu.workers else "dim"])
    label = _label(gpu)
    if label and words.rstrip().endswith(label):
        end = len(text) - (len(words) - len(words.rstrip()))
        text.stylize(palette["gpu.split"], end - len(label), end)


def _label(gpu: GpuView) -> str:
    return gpu.mark if gpu.mark in ("layer-split", "tensor-split", "shared") else ""


def _who(gpu: GpuView) -> str:
    names = ", ".join(name.removeprefix(f"{gpu.node}/") for name in gpu.workers) or UNKNOWN
    label = _label(gpu)
    return f"{names} {label}" if label else names


def together(one: GpuView, other: GpuView) -> bool:
    """Whether one worker spans both cards."""
    return (
        one.node == other.node
        and one.mark == other.mark
        and one.mark in ("layer-split", "tensor-split")
        and bool(set(one.workers) & set(other.workers))
    )


def hot(gpu: GpuView) -> bool:
    """Whether the card is too warm, or is slowed down for it."""
    return (gpu.sample.temperature_celsius or 0) >= HOT_CELSIUS or slowed_down(gpu)


def slowed_down(gpu: GpuView) -> bool:
    """Whether the card runs slower than it could, by more than its power limit."""
    throttle = gpu.sample.throttle
    return bool(throttle) and _harmful(throttle)


@lru_cache(64)
def _harmful(throttle: tuple[str, ...]) -> bool:
    return not _HARMFUL.isdisjoint(throttle)

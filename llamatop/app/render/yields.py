"""What each worker yields: how busy its cards are, its tokens a second, and those a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.text import Text

from llamatop.app.render.bars import bar
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, fit_middle, piece
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.figures import UNKNOWN, number

# The lines of the table that are no worker.
HEADED = 1
_MOST_SHOWN = 4
_SPLITS = ("layer-split", "tensor-split")


def per_gpu(worker: WorkerView) -> float | None:
    """Generated tokens a second for each of its cards; None where either is not known."""
    rate = worker.generation_tokens_per_second
    return rate / len(worker.gpus) if rate is not None and worker.gpus else None


def busy(worker: WorkerView, cards: Mapping[int | None, GpuView]) -> str:
    """`51 % | 49 %`: the cards of a worker side by side, a range where they are many."""
    on = [cards[index] for index in worker.gpus or () if index in cards]
    values = [card.sample.utilization_percent for card in on]
    if not values:
        return UNKNOWN
    if len(values) <= 2:
        return " | ".join(UNKNOWN if value is None else f"{value:.0f} %" for value in values)
    if len(values) <= _MOST_SHOWN:
        return " | ".join(UNKNOWN if value is None else f"{value:.0f}" for value in values) + " %"
    known = [value for value in values if value is not None]
    if not known:
        return UNKNOWN
    low, high = f"{min(known):.0f}", f"{max(known):.0f}"
    return f"{len(values)} × {low}{'' if low == high else f'–{high}'} %"


def _columns(width: int) -> tuple[int, int, int, int, int]:
    """Widths of name, kind, cards, busy, bar; 0 leaves one out."""
    name, kind, cards, load = (16, 13, 9, 16) if width >= 76 else (width - 28, 0, 0, 13)
    if width >= 120:
        name, cards = 26, 18
    left = width - 1 - name - kind - cards - load - 14
    return max(4, name), kind, cards, load, min(40, left - 2) if left >= 8 else 0


def heading(width: int, palette: Palette) -> Text:
    """The columns' names."""
    name, kind, cards, load, _ = _columns(width)
    text = piece(" " + fit("worker", name), palette["faint"])
    words = (fit("kind", kind) if kind else "") + (fit("GPUs", cards) if cards else "")
    text.append(words + fit("busy", load) + f"{'tok/s':>6}{'a GPU':>8}", palette["faint"])
    return text


def worker_line(
    worker: WorkerView,
    around: Mapping[int | None, GpuView],
    most: float,
    width: int,
    palette: Palette,
) -> Text:
    """One worker; the bar is its rate a GPU beside the largest of the cluster, `most`."""
    name, kind, cards, load, room = _columns(width)
    split = worker.topology in _SPLITS
    text = piece(" ", palette["text"])
    short = worker.name.partition("/")[2] or worker.name
    text.append(fit_middle(short, name - 1) + " ", palette["text"])
    role = "gpu.split" if split or worker.topology == "shared" else "dim"
    if kind:
        text.append(fit(worker.topology or UNKNOWN, kind), palette[role])
    if cards:
        on = "+".join(map(str, worker.gpus)) if worker.gpus else UNKNOWN
        text.append(fit_middle(on, cards - 1) + " ", palette["dim"])
    text.append(fit(busy(worker, around), load), palette[role if split else "text"])
    rate, each = worker.generation_tokens_per_second, per_gpu(worker)
    text.append(fit(number(rate), 6, True), palette["rate.generation" if rate else "dim"])
    text.append(fit(number(each), 8, True), palette["total.generation" if each else "dim"])
    if room and each is not None:
        text.append("  ")
        text.append_text(bar(100 * each / most if most else 0.0, room, palette))
    return text


def kinds(workers: Sequence[WorkerView], cards: Mapping[tuple[str, int], GpuView]) -> str:
    """`per-gpu 96 % · layer-split 50 %`: how busy the cards are on the mean, by kind of worker."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for worker in workers:
        for index in worker.gpus or ():
            card = cards.get((worker.node, index))
            value = None if card is None else card.sample.utilization_percent
            if value is not None and worker.topology:
                found.setdefault(worker.topology, {})[worker.node, index] = value
    return " · ".join(f"{kind} {fmean(values.values()):.0f} %" for kind, values in found.items())

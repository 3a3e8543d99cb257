"""What each model serves, over all its workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.bars import bar
from llamatop.app.render.columns import gap
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces, fit, fit_middle, piece
from llamatop.collect.health import totals
from llamatop.model.cluster import Totals, WorkerView
from llamatop.model.figures import UNKNOWN, count, number, share

_BAR = 10


class ModelRow(Struct, frozen=True):
    """One model: how many workers have it, and their sums; `name` is None where it is unknown."""

    name: str | None
    workers: int
    totals: Totals

    @property
    def shown(self) -> str:
        """The name without the ending that says nothing."""
        return (self.name or UNKNOWN).removesuffix(".gguf")


def by_model(workers: Iterable[WorkerView]) -> list[ModelRow]:
    """Every model, that with the most workers first."""
    of: dict[str | None, list[WorkerView]] = {}
    for worker in workers:
        of.setdefault(worker.sample.model, []).append(worker)
    found = [ModelRow(name, len(mine), totals(mine)) for name, mine in of.items()]
    return sorted(found, key=lambda row: (row.name is None, -row.workers, row.shown))


class ModelLayout(Struct, frozen=True):
    """Widths in cells; 0 leaves the part out."""

    name: int
    workers: int
    bar: int
    slots: int
    prompt: int
    queue: int


_GENERATION = 6


def layout(listed: Sequence[ModelRow], width: int) -> ModelLayout:
    """What fits; the name, the slots and the generation rate never leave."""
    wanted = max((cell_len(row.shown) for row in listed), default=5)
    slots = max([5, *(len(_slots(row)) for row in listed)])
    parts = {"workers": 7, "bar": _BAR, "prompt": 8, "queue": 6}
    between = len(gap(width))
    fixed = slots + _GENERATION + 1 + 2 * between
    for leaving in ("bar", "prompt", "workers", "queue"):
        if fixed + sum(part + between for part in parts.values()) + min(wanted, 20) <= width:
            break
        parts[leaving] = 0
    spare = width - fixed - sum(part + between for part in parts.values() if part)
    return ModelLayout(name=max(6, min(wanted, spare)), slots=slots, **parts)


def _slots(row: ModelRow) -> str:
    return share(row.totals.slots_busy, row.totals.slots_total)


def titles(parts: ModelLayout, width: int, palette: Palette) -> Text:
    """The line of titles."""
    cells = [
        fit("model", parts.name),
        fit("workers", parts.workers, True),
        fit("", parts.bar),
        fit("slots", parts.slots),
        fit("gen/s", _GENERATION, True),
        fit("prompt/s", parts.prompt, True),
        fit("queued", parts.queue, True),
    ]
    return piece(" " + gap(width).join(cell for cell in cells if cell), palette["faint"])


def line(row: ModelRow, parts: ModelLayout, width: int, palette: Palette) -> Text:
    """One model."""
    sums = row.totals
    cells = [piece(fit_middle(row.shown, parts.name), palette["text"])]
    if parts.workers:
        cells.append(piece(fit(count(row.workers), parts.workers, True), palette["dim"]))
    if parts.bar:
        busy = sums.slots_busy
        filled = None if busy is None or not sums.slots_total else 100 * busy / sums.slots_total
        cells.append(bar(filled, parts.bar, palette))
    cells.append(piece(fit(_slots(row), parts.slots), palette["text"]))
    rates = [(sums.generation_tokens_per_second, _GENERATION, "rate.generation")]
    if parts.prompt:
        rates.append((sums.prompt_tokens_per_second, parts.prompt, "rate.prompt"))
    for value, cell, role in rates:
        cells.append(piece(fit(number(value), cell, True), palette[role if value else "dim"]))
    if parts.queue:
        waiting = sums.requests_deferred
        role = "queue.waiting" if waiting else "dim"
        cells.append(piece(fit(count(waiting), parts.queue, True), palette[role]))
    text = Pieces(" ")
    return text.append_text(Text(gap(width)).join(cells))

"""The worker table: which columns fit, and one line for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.bars import slots
from llamatop.app.render.inference import model_words
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import MEMBERSHIP
from llamatop.app.render.words import fit, fit_middle, fit_name, piece
from llamatop.app.rows import Row
from llamatop.model.cluster import WorkerView
from llamatop.model.figures import UNKNOWN, count, duration, number

GUTTER = 3


@dataclass(frozen=True, slots=True)
class Column:
    """One column as laid out; `right` aligns figures."""

    key: str
    title: str
    width: int
    right: bool = False


# In the order of the screen. The number is the order of leaving: the highest goes first.
_LEAVES = {
    "worker": 0,
    "state": 0,
    "slots": 1,
    "generation": 2,
    "membership": 3,
    "queue": 4,
    "prompt": 5,
    "gpus": 6,
    "context": 7,
    "model": 8,
    "up": 9,
    "restarts": 10,
    "topology": 11,
}


def columns(listed: Sequence[Row], width: int) -> list[Column]:
    """The columns that fit into `width` cells, their widths from what they have to show."""
    workers = [row.worker for row in listed if row.worker is not None]
    gap = 2 if width >= 100 else 1
    named = [row for row in listed if row.worker is not None] if width < 60 and workers else listed
    names = max((cell_len(row.shown) for row in named), default=6)
    slot_count = max((worker.slots_total or 0 for worker in workers), default=0)
    models = max((cell_len(model_words(worker)) for worker in workers), default=5)
    marks = slot_count + 1 if slot_count <= 8 else 0
    numbers = 5 if slot_count >= 10 else 3
    wide = width >= 100
    columns = [
        Column("worker", "worker", max(6, min(names, 32 if wide else max(12, width // 4)))),
        Column("state", "state", 12 if width >= 60 else 11),
        Column("membership", "member", 8),
        Column("slots", "slots", max(5, marks + numbers)),
        Column("generation", "gen/s" if wide else "gen", 5, True),
        Column("prompt", "prompt/s" if width >= 140 else "prompt", 8 if width >= 140 else 6, True),
        Column("queue", "queue" if wide else "q", 5 if wide else 2, True),
        Column("context", "context", 11 if wide else 10, True),
        Column("gpus", "gpu", 4),
        Column("model", "model", max(5, min(models, 12))),
        Column("up", "up", 6, True),
        Column("restarts", "rst", 3, True),
        Column("topology", "placement", 12),
    ]
    kept = list(columns)
    while _total(kept, gap) > width and len(kept) > 2:
        kept.remove(max(kept, key=lambda column: _LEAVES[column.key]))
    # What is left goes to the names that are cut: the workers' first, then the models'.
    for key, wanted in (("worker", names), ("model", models)):
        spare = width - _total(kept, gap)
        kept = [
            _grown(column, max(0, min(spare, wanted - column.width)))
            if column.key == key
            else column
            for column in kept
        ]
    return kept


def _total(kept: Sequence[Column], gap: int) -> int:
    return GUTTER + sum(column.width + gap for column in kept) - gap


def _grown(column: Column, by: int) -> Column:
    return Column(column.key, column.title, column.width + by, column.right)


def titles(kept: Sequence[Column], width: int, palette: Palette) -> Text:
    """The line of column titles."""
    gap = " " * (2 if width >= 100 else 1)
    cells = [fit(column.title, column.width, column.right) for column in kept]
    return piece(" " * GUTTER + gap.join(cells), palette["faint"])


def line(
    row: Row,
    kept: Sequence[Column],
    width: int,
    palette: Palette,
    now: datetime,
    *,
    selected: bool = False,
    marked: bool = False,
) -> Text:
    """One row; what is stale is dimmed and says its age where its state would be."""
    gap = " " * (2 if width >= 100 else 1)
    if row.stale_seconds is not None:
        palette = palette.faded
    text = Text(no_wrap=True)
    text.append("▸" if selected else " ", palette["brand"])
    text.append("◆ " if marked else "  ", palette["marked"])
    for position, column in enumerate(kept):
        if position:
            text.append(gap)
        text.append_text(_CELLS[column.key](row, column, palette, now))
    if cell_len(text.plain) < width:
        text.append(" " * (width - cell_len(text.plain)))
    if selected:
        text.stylize(palette["cursor"])
    return text


def _worker(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    name = fit_name(row.shown, column.width)
    text = piece(name, palette["text"])
    if name.startswith(f"{row.node}/"):
        text.stylize(palette["node.name"], 0, len(row.node) + 1)
    return text


def _state(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    if row.stale_seconds is not None:
        words = f"? {duration(row.stale_seconds)} old"
        return piece(fit(words, column.width), palette["node.stale"])
    state = row.state
    return piece(fit(f"{state.mark} {state.word}", column.width), palette[state.role])


def _membership(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    worker = row.worker
    if worker is None:
        return Text(" " * column.width)
    word, role = MEMBERSHIP.get(worker.membership or "", (UNKNOWN, "dim"))
    return piece(fit(word, column.width), palette[role])


def _slots(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    worker = row.worker
    if worker is None:
        return Text(" " * column.width)
    return slots(worker.slots_busy, worker.slots_total, worker.sample.slots, column.width, palette)


def _figure(role: str, read: Callable[[WorkerView], str]) -> Callable[..., Text]:
    def cell(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
        words = read(row.worker) if row.worker is not None else ""
        quiet = words in (UNKNOWN, "0", "")
        return piece(fit(words, column.width, column.right), palette["dim" if quiet else role])

    return cell


def _context(worker: WorkerView) -> str:
    if worker.sample.kv_cache_percent is not None and worker.context_used_tokens is None:
        return f"kv {worker.sample.kv_cache_percent:.0f} %"
    if worker.context_used_tokens is None and worker.sample.context_tokens is None:
        return UNKNOWN
    return f"{number(worker.context_used_tokens)}/{number(worker.sample.context_tokens)}"


def _gpus(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    worker = row.worker
    if worker is None:
        return Text(" " * column.width)
    spilled = worker.spilled_percent is not None
    if worker.topology == "cpu":
        words, role = ("▲cpu", "event.warning") if spilled else ("cpu", "dim")
        return piece(fit(words, column.width), palette[role])
    if not worker.gpus:
        return piece(fit(UNKNOWN, column.width), palette["dim"])
    words = "+".join(map(str, worker.gpus)) + ("▲" if spilled else "")
    if len(words) > column.width:
        words = f"{worker.gpus[0]}…{worker.gpus[-1]}"
    split = worker.topology in ("layer-split", "tensor-split")
    role = "event.warning" if spilled else "gpu.split" if split else "text"
    return piece(fit(words, column.width), palette[role])


def _topology(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    topology = row.worker.topology if row.worker else None
    if row.worker is None:
        return Text(" " * column.width)
    if row.worker.spilled_percent is not None:
        words = f"{row.worker.spilled_percent:.0f} % on cpu"
        return piece(fit(words, column.width), palette["event.warning"])
    split = topology in ("layer-split", "tensor-split", "shared")
    return piece(fit(topology or UNKNOWN, column.width), palette["gpu.split" if split else "dim"])


def _model(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    if row.worker is None:
        words = row.unit.description or ""
        return piece(
            fit(words if cell_len(words) <= column.width else "", column.width), palette["faint"]
        )
    return piece(fit_middle(model_words(row.worker), column.width), palette["dim"])


def _up(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    since = row.unit.since
    running = row.unit.active_state in ("active", "reloading")
    seconds = now.timestamp() - since if since is not None and running else None
    return piece(fit(duration(seconds), column.width, True), palette["dim"])


def _restarts(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    restarts = row.unit.restarts
    role = "worker.fault" if restarts else "dim"
    return piece(fit(count(restarts), column.width, True), palette[role])


_CELLS: dict[str, Callable[[Row, Column, Palette, datetime], Text]] = {
    "worker": _worker,
    "state": _state,
    "membership": _membership,
    "slots": _slots,
    "generation": _figure(
        "rate.generation", lambda worker: number(worker.generation_tokens_per_second)
    ),
    "prompt": _figure("rate.prompt", lambda worker: number(worker.prompt_tokens_per_second)),
    "queue": _figure("queue.waiting", lambda worker: count(worker.sample.requests_deferred)),
    "context": _figure("text", _context),
    "gpus": _gpus,
    "topology": _topology,
    "model": _model,
    "up": _up,
    "restarts": _restarts,
}

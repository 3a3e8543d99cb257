"""One line of the worker table for each worker, tunnel and nginx."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render import cards
from llamatop.app.render.bars import slots
from llamatop.app.render.columns import INDENT, Column, finished, gap
from llamatop.app.render.inference import model_words
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import MEMBERSHIP
from llamatop.app.render.words import Pieces, fit, fit_middle, fit_name, piece
from llamatop.app.rows import Row
from llamatop.model.cluster import WorkerView
from llamatop.model.figures import UNKNOWN, count, duration, number


def line(
    row: Row,
    kept: Sequence[Column],
    width: int,
    palette: Palette,
    now: datetime,
    *,
    selected: bool = False,
    marked: bool = False,
    below_node: bool = False,
) -> Text:
    """One row; what is stale is dimmed and says its age where its state would be.

    `below_node` leaves out the node's name, which stands above.
    """
    between = gap(width)
    if row.stale_seconds is not None:
        palette = palette.faded
    text = Pieces()
    text.append("▸" if selected else " ", palette["brand"])
    text.append("◆ " if marked else "  ", palette["marked"])
    if below_node:
        text.append(" ")
    for position, column in enumerate(kept):
        if position:
            text.append(between)
        cell = _below if below_node and column.key == "worker" else _CELLS[column.key]
        text.append_text(cell(row, column, palette, now))
    return finished(text, width, palette, selected)


def _worker(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    name = fit_name(row.shown, column.width)
    node = len(row.node) + 1 if name.startswith(f"{row.node}/") else 0
    text = piece(name[:node], palette["node.name"])
    text.append(name[node:], palette["text"])
    return text


def _below(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    name = row.shown.removeprefix(f"{row.node}/")
    return piece(" " * INDENT + fit_middle(name, column.width - INDENT), palette["text"])


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


def _load(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    if row.worker is None:
        return Text(" " * column.width)
    stale = row.stale_seconds is not None
    return cards.load(row.cards, column.width, palette, strip=column.strip, stale=stale)


def _memory(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    if row.worker is None:
        return Text(" " * column.width)
    return cards.memory(row.cards, column.width, palette)


def _temperature(row: Row, column: Column, palette: Palette, now: datetime) -> Text:
    if row.worker is None:
        return Text(" " * column.width)
    return cards.temperature(row.cards, column.width, palette)


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
    "load": _load,
    "memory": _memory,
    "temperature": _temperature,
    "up": _up,
    "restarts": _restarts,
}

"""A node's line in the worker table: its worst state and the sums of its workers and cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.nodes import NodeRow
from llamatop.app.render import cards
from llamatop.app.render.columns import Column, finished, gap
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import MEMBERSHIP
from llamatop.app.render.words import Pieces, fit, fit_middle, piece
from llamatop.model.figures import UNKNOWN, count, duration, number, share


def line(
    node: NodeRow,
    kept: Sequence[Column],
    width: int,
    palette: Palette,
    *,
    folded: bool | None,
    selected: bool = False,
    marked: bool = False,
) -> Text:
    """One node, `+` before it where its workers are folded away; what is stale is dimmed.

    `folded` is None where it stands among workers of other nodes.
    """
    if node.stale_seconds is not None:
        palette = palette.faded
    between = gap(width)
    text = Pieces()
    text.append("▸" if selected else " ", palette["brand"])
    text.append("◆" if marked else " ", palette["marked"])
    text.append(" " if folded is None else "+ " if folded else "− ", palette["key"])
    for position, column in enumerate(kept):
        if position:
            text.append(between)
        if not node.view.reachable and column.key not in ("worker", "state"):
            # No figure is as good as why there is none.
            room = max(0, width - cell_len(text.plain))
            text.append(fit(_silence(node, room), room), palette["dim"])
            break
        text.append_text(_CELLS.get(column.key, _blank)(node, column, palette))
    return finished(text, width, palette, selected)


def _silence(node: NodeRow, room: int) -> str:
    view, retry = node.view, ""
    if view.next_try_seconds is not None:
        retry = "retry in " if room >= 20 else "retry "
        retry += duration(view.next_try_seconds)
    return " · ".join(filter(None, [retry, view.fault]))


def _blank(node: NodeRow, column: Column, palette: Palette) -> Text:
    return Text(" " * column.width)


def _name(node: NodeRow, column: Column, palette: Palette) -> Text:
    return piece(fit_middle(node.shown, column.width), palette["text"])


def _state(node: NodeRow, column: Column, palette: Palette) -> Text:
    if node.stale_seconds is not None:
        words = f"? {duration(node.stale_seconds)} old"
        return piece(fit(words, column.width), palette["node.stale"])
    state = node.state
    return piece(fit(f"{state.mark} {state.word}", column.width), palette[state.role])


def _membership(node: NodeRow, column: Column, palette: Palette) -> Text:
    known = sum(row.worker is not None and row.worker.membership is not None for row in node.rows)
    serving = node.serving
    if not known:
        return piece(fit(UNKNOWN, column.width), palette["dim"])
    word, role = MEMBERSHIP["in" if serving == known else "down"]
    words = word if serving == known else f"{serving}/{known} in"
    return piece(fit(words, column.width), palette[role])


def _slots(node: NodeRow, column: Column, palette: Palette) -> Text:
    sums = node.totals
    role = "text" if sums.slots_busy else "dim"
    return piece(fit(share(sums.slots_busy, sums.slots_total), column.width), palette[role])


def _figure(role: str, read: Callable[[NodeRow], str]) -> Callable[..., Text]:
    def cell(node: NodeRow, column: Column, palette: Palette) -> Text:
        words = read(node)
        quiet = words in (UNKNOWN, "0")
        return piece(fit(words, column.width, column.right), palette["dim" if quiet else role])

    return cell


def _load(node: NodeRow, column: Column, palette: Palette) -> Text:
    stale = node.view.stale or not node.view.reachable
    return cards.load(node.cards, column.width, palette, strip=column.strip, stale=stale)


def _memory(node: NodeRow, column: Column, palette: Palette) -> Text:
    return cards.memory(node.cards, column.width, palette)


def _temperature(node: NodeRow, column: Column, palette: Palette) -> Text:
    return cards.temperature(node.cards, column.width, palette)


def _model(node: NodeRow, column: Column, palette: Palette) -> Text:
    names = {row.worker.sample.model for row in node.rows if row.worker is not None} - {None}
    words = f"{len(names)} models" if len(names) > 1 else (next(iter(names), None) or UNKNOWN)
    return piece(fit_middle(words.removesuffix(".gguf"), column.width), palette["dim"])


_CELLS: dict[str, Callable[[NodeRow, Column, Palette], Text]] = {
    "worker": _name,
    "state": _state,
    "membership": _membership,
    "slots": _slots,
    "load": _load,
    "memory": _memory,
    "temperature": _temperature,
    "generation": _figure(
        "rate.generation", lambda node: number(node.totals.generation_tokens_per_second)
    ),
    "prompt": _figure("rate.prompt", lambda node: number(node.totals.prompt_tokens_per_second)),
    "queue": _figure("queue.waiting", lambda node: count(node.totals.requests_deferred)),
    "gpus": _figure("dim", lambda node: count(len(node.cards))),
    "model": _model,
}

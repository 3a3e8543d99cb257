"""One node in full: the machine, its cards, its workers."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from llamatop.app.nodes import NodeRow
from llamatop.app.render import columns, gpus, workers
from llamatop.app.render.bars import bar
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, piece, wrap
from llamatop.collect.source import History
from llamatop.model.figures import UNKNOWN, count, duration, gibibytes, number, percent, share
from llamatop.model.text import plain

_LABEL = 11
_BAR = 20


def title(node: NodeRow, width: int, palette: Palette) -> Text:
    """The name and the worst state on it."""
    text = piece(" ", palette["text"])
    text.append(fit(node.node, min(len(node.node), max(8, width - 20))), palette["brand"])
    if node.stale_seconds is not None:
        text.append(f"   ? {duration(node.stale_seconds)} old", palette["node.stale"])
    else:
        text.append(f"   {node.state.mark} {node.state.word}", palette[node.state.role])
    return text


def lines(
    node: NodeRow, history: History | None, width: int, palette: Palette, now: datetime
) -> list[Text]:
    """Faults, the machine, the cards with what they did, the workers."""
    made = _machine(node, width, palette)
    if node.cards:
        made += [Text(), piece(" gpus", palette["heading"])]
        parts = gpus.layout(node.cards, width)
        for place, card in enumerate(node.cards):
            past = history.gpu_utilization(card.node, card.sample.uuid) if history else ()
            stale = node.view.stale or not node.view.reachable
            made.append(gpus.line(node.cards, place, parts, past, palette, stale=stale))
    if node.rows:
        kept = columns.columns(node.rows, width)
        made += [Text(), piece(" workers", palette["heading"])]
        made.append(columns.titles(kept, width, palette))
        made += [workers.line(row, kept, width, palette, now) for row in node.rows]
    return made


def _machine(node: NodeRow, width: int, palette: Palette) -> list[Text]:
    view, host, sums = node.view, node.view.snapshot.host, node.totals
    made: list[Text] = []
    if view.fault:
        for place, part in enumerate(wrap(view.fault, max(10, width - _LABEL - 2))):
            made.append(_fact("fault" if place == 0 else "", part, "worker.fault", palette))
    cores = "" if host.cpu_count is None else f" of {host.cpu_count} cores"
    load = f"{percent(host.cpu_percent)}{cores}, load {number(host.load1)}"
    made.append(_measured("cpu", host.cpu_percent, load, width, palette))
    used, whole = host.memory_used_bytes, host.memory_total_bytes
    filled = None if used is None or not whole else 100 * used / whole
    made.append(_measured("memory", filled, gibibytes(used, whole), width, palette))
    slots = share(sums.slots_busy, sums.slots_total)
    busy = None
    if sums.slots_busy is not None and sums.slots_total:
        busy = 100 * sums.slots_busy / sums.slots_total
    queued = f"{slots}, {count(sums.requests_deferred)} waiting"
    made.append(_measured("slots", busy, queued, width, palette))
    rates = f"{number(sums.generation_tokens_per_second)} gen tok/s, "
    rates += f"{number(sums.prompt_tokens_per_second)} prompt"
    made.append(_fact("tokens", rates, "rate.generation", palette))
    up = duration(host.uptime_seconds)
    made.append(_fact("machine", f"{host.hostname or UNKNOWN}, up {up}", "dim", palette))
    return made


def _fact(label: str, value: str, role: str, palette: Palette) -> Text:
    text = piece(f" {fit(label, _LABEL)}", palette["faint"])
    text.append(plain(value), palette[role])
    return text


def _measured(label: str, filled: float | None, value: str, width: int, palette: Palette) -> Text:
    text = piece(f" {fit(label, _LABEL)}", palette["faint"])
    if width >= _LABEL + _BAR + 30:
        text.append_text(bar(filled, _BAR, palette)).append(" ")
    text.append(fit(value, max(4, width - len(text))).rstrip(), palette["text"])
    return text

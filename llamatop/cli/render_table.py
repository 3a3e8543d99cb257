"""A snapshot as tables for people, on a terminal or in a file."""

from __future__ import annotations

import os
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llamatop.model.cluster import ClusterSnapshot, NodeView, WorkerView
from llamatop.model.figures import (
    UNKNOWN,
    count,
    degrees,
    duration,
    gibibytes,
    number,
    percent,
    share,
    watts,
)
from llamatop.model.text import plain

FILE_WIDTH = 200
LAST_EVENTS = 8

_GOOD, _BAD, _WARN, _DIM = "green", "bold red", "yellow", "dim"
_STATES = {
    "ok": _GOOD,
    "busy": _GOOD,
    "in": _GOOD,
    "active": _GOOD,
    "loading": _WARN,
    "draining": _WARN,
    "mixed": _WARN,
    "down": _WARN,
    "activating": _WARN,
    "unauthorized": _BAD,
    "unreachable": _BAD,
    "error": _BAD,
    "failed": _BAD,
}
_SEVERITIES = {"info": "", "warning": _WARN, "error": _BAD}


def print_status(snapshot: ClusterSnapshot, out: TextIO) -> None:
    """Print nodes, cards, workers, members and the last events; colours only on a terminal."""
    terminal = out.isatty()
    console = Console(
        file=out,
        width=None if terminal else FILE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=True if os.environ.get("NO_COLOR") else None,
    )
    tables = [_head(snapshot), _nodes(snapshot)]
    if snapshot.gpus:
        tables.append(_gpus(snapshot))
    if snapshot.workers:
        tables.append(_workers(snapshot))
    if snapshot.members:
        tables.append(_members(snapshot))
    if snapshot.events:
        tables.append(_events(snapshot))
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)
    for text in _faults(snapshot):
        console.print(text, soft_wrap=True)


def _head(snapshot: ClusterSnapshot) -> Text:
    totals = snapshot.totals
    text = Text(plain(snapshot.cluster.name), style="bold")
    text.append("  ")
    text.append(
        "healthy" if snapshot.healthy else "unhealthy", style=_GOOD if snapshot.healthy else _BAD
    )
    text.append(
        f"  generation {number(totals.generation_tokens_per_second)} tok/s"
        f"  prompt {number(totals.prompt_tokens_per_second)} tok/s"
        f"  slots {share(totals.slots_busy, totals.slots_total)}"
        f"  waiting {count(totals.requests_deferred)}",
        style="not bold",
    )
    return text


def _nodes(snapshot: ClusterSnapshot) -> Table:
    table = _table("NODE", "STATE", ">CPU", ">MEMORY", ">LOAD", ">AGE")
    for node in snapshot.nodes:
        host = node.snapshot.host
        load = UNKNOWN if host.load1 is None else f"{host.load1:.2f}"
        table.add_row(
            _text(node.name),
            _node_state(node),
            percent(host.cpu_percent),
            gibibytes(host.memory_used_bytes, host.memory_total_bytes),
            load,
            duration(node.age_seconds),
            style=_DIM if node.stale else "",
        )
    return table


def _node_state(node: NodeView) -> Text:
    if not node.reachable:
        return Text("unreachable", style=_BAD)
    if node.stale:
        return Text("stale", style=_WARN)
    return Text("fault", style=_WARN) if node.fault else Text("ok", style=_GOOD)


def _gpus(snapshot: ClusterSnapshot) -> Table:
    table = _table("NODE", ">GPU", "NAME", ">USE", ">MEMORY", ">POWER", ">HEAT", "WORKERS")
    for gpu in snapshot.gpus:
        sample = gpu.sample
        table.add_row(
            _text(gpu.node),
            count(sample.index),
            _text(sample.name),
            percent(sample.utilization_percent),
            gibibytes(sample.memory_used_bytes, sample.memory_total_bytes),
            watts(sample.power_watts, sample.power_limit_watts),
            degrees(sample.temperature_celsius),
            _text(", ".join(gpu.workers)),
            style=_BAD if sample.fault else "",
        )
    return table


def _workers(snapshot: ClusterSnapshot) -> Table:
    table = _table(
        "WORKER", "UNIT", "HEALTH", "MEMBER", "GPUS", ">SLOTS", ">GEN", ">PROMPT", ">WAIT", "MODEL"
    )
    for worker in snapshot.workers:
        table.add_row(
            _text(worker.name),
            _word(worker.unit.active_state, worker.unit.sub_state),
            _word(worker.sample.health),
            _word(worker.membership),
            _text(_layout(worker)),
            share(worker.slots_busy, worker.slots_total),
            number(worker.generation_tokens_per_second),
            number(worker.prompt_tokens_per_second),
            count(worker.sample.requests_deferred),
            _text(worker.sample.model),
        )
    return table


def _layout(worker: WorkerView) -> str:
    if worker.gpus is None:
        return worker.topology or UNKNOWN
    indices = ",".join(str(index) for index in worker.gpus)
    return " ".join(word for word in (indices, worker.topology) if word)


def _members(snapshot: ClusterSnapshot) -> Table:
    table = _table("UPSTREAM", "MEMBER", "STATE", "WORKER", ">WEIGHT")
    for member in snapshot.members:
        table.add_row(
            _text(member.upstream),
            _text(member.address),
            _word(member.state),
            _text(member.worker),
            count(member.weight),
        )
    return table


def _events(snapshot: ClusterSnapshot) -> Table:
    table = _table("TIME", "WHERE", "EVENT")
    for event in snapshot.events[-LAST_EVENTS:]:
        table.add_row(
            event.at.strftime("%H:%M:%SZ"),
            _text(event.worker or event.node),
            Text(plain(event.text), style=_SEVERITIES[event.severity]),
        )
    return table


def _faults(snapshot: ClusterSnapshot) -> list[Text]:
    found: list[tuple[str, str]] = [
        (node.name, node.fault) for node in snapshot.nodes if node.fault
    ]
    found += [
        (f"{gpu.node} card {gpu.sample.index}", gpu.sample.fault)
        for gpu in snapshot.gpus
        if gpu.sample.fault
    ]
    found += [(worker.name, worker.fault) for worker in snapshot.workers if worker.fault]
    balancer = snapshot.balancer
    if balancer is not None and (balancer.fault or balancer.config_error):
        cause = balancer.fault or balancer.config_error or ""
        found.append((snapshot.balancer_node or "balancer", cause))
    found += [(worker.name, hint) for worker in snapshot.workers for hint in worker.hints]
    return [Text(f"! {plain(who)}: {plain(text)}", style=_WARN) for who, text in found]


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return table


def _text(value: str | None) -> Text:
    return Text(plain(value) if value else UNKNOWN)


def _word(word: str | None, detail: str | None = None) -> Text:
    if word is None:
        return Text(UNKNOWN)
    text = Text(plain(word), style=_STATES.get(word, ""))
    if detail and detail != "running":
        text.append(f" {plain(detail)}", style=_DIM)
    return text

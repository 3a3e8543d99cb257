"""What is wrong now, worst first, each as one sentence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.state import FAULT, worker_state
from llamatop.app.render.words import fit, piece, wrap
from llamatop.model.cluster import ClusterSnapshot, Severity, WorkerView
from llamatop.model.figures import duration
from llamatop.model.text import plain

_SENTENCES = {
    "failed": "its unit failed; read why with l, start it with s",
    "crash loop": "it starts and dies again and again; read why with l",
    "no unit": "systemd knows no such unit; check its name in the cluster file",
    "stopped": "stopped, yet wanted; start it with s or drain it with d",
    "no answer": "its endpoint does not answer; read its log with l",
    "no key": "it wants an API key; name the variable in api_key_env of a cluster file",
    "error": "its endpoint answers with an error; read its log with l",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One sentence about one thing."""

    severity: Severity
    where: str
    text: str


def alerts(snapshot: ClusterSnapshot, changing: Collection[str] = ()) -> list[Alert]:
    """Errors, then warnings, each in the cluster's order; none before the first tick.

    Of workers that a plan is `changing` there is none: the plan itself tells how they fare.
    """
    if snapshot.tick == 0:
        return []
    found: list[Alert] = []
    silent = set()
    for node in snapshot.nodes:
        age = f" ({duration(node.age_seconds)} old)" if node.age_seconds is not None else ""
        if node.fault:
            severity: Severity = "warning" if node.reachable and not node.stale else "error"
            found.append(Alert(severity, node.name, node.fault + (age if node.stale else "")))
        elif not node.reachable or node.stale:
            found.append(Alert("error", node.name, f"no answer from the node{age}"))
        if not node.reachable or node.stale:
            silent.add(node.name)
    for worker in snapshot.workers:
        if worker.node not in silent and worker.name not in changing:
            found += _worker(worker)
    found += [
        Alert("error", f"{gpu.node} gpu {gpu.sample.index}", gpu.sample.fault)
        for gpu in snapshot.gpus
        if gpu.sample.fault and gpu.node not in silent
    ]
    found += _balancer(snapshot)
    return sorted(found, key=lambda alert: alert.severity != "error")


def _worker(worker: WorkerView) -> list[Alert]:
    state = worker_state(worker)
    if state.rank == FAULT:
        text = worker.sample.fault or _SENTENCES.get(state.word, state.word)
        return [Alert("error", worker.name, text)]
    return [Alert("warning", worker.name, worker.fault)] if worker.fault else []


def _balancer(snapshot: ClusterSnapshot) -> list[Alert]:
    balancer, where = snapshot.balancer, f"{snapshot.balancer_node} nginx"
    if balancer is None:
        return []
    found = []
    if balancer.fault:
        found.append(Alert("error", where, balancer.fault))
    elif balancer.config_valid is False:
        text = balancer.config_error or "nginx -t refuses its configuration"
        found.append(Alert("error", where, text))
    if balancer.running is False:
        found.append(Alert("error", where, "nginx does not run; start its unit with s"))
    if balancer.reload_pending:
        text = "a file is newer than what runs; nginx -s reload applies it"
        found.append(Alert("warning", where, text))
    return found


def lines(found: Sequence[Alert], width: int, height: int, palette: Palette) -> list[Text]:
    """At most `height` lines, long sentences wrapped while all fit; the last says what is left."""
    names = min(
        max((cell_len(plain(alert.where)) for alert in found), default=0), max(8, width // 3)
    )
    drawn = [part for alert in found for part in _drawn(alert, names, width, palette, True)]
    if len(drawn) <= height:
        return drawn
    drawn = [part for alert in found for part in _drawn(alert, names, width, palette, False)]
    if len(drawn) <= height:
        return drawn
    kept = max(0, height - 1)
    more = f"   and {len(found) - kept} more"
    return [*drawn[:kept], piece(more, palette["event.warning"])][:height]


def _drawn(alert: Alert, names: int, width: int, palette: Palette, whole: bool) -> list[Text]:
    role = f"event.{alert.severity}"
    room = max(8, width - names - 6)
    parts = wrap(alert.text, room) if whole else [fit(alert.text, room)]
    drawn = []
    for place, part in enumerate(parts):
        text = Text(" ", no_wrap=True)
        if place == 0:
            text.append("✗ " if alert.severity == "error" else "▲ ", palette[role])
            text.append(fit(alert.where, names) + "  ", palette[role])
        else:
            text.append(" " * (names + 4))
        text.append(part, palette["text"])
        drawn.append(text)
    return drawn

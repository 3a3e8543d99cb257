"""What is wrong now, worst first, each as one sentence."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace
from rich.cells import cell_len
from rich.text import Text

from llamatop.advise.dead import Cards, cards, cut_off, dead, on_card
from llamatop.app.render.gpus import HOT_CELSIUS, hot, slowed_down
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import FAULT, State, silent, worker_states
from llamatop.app.render.words import Pieces, fit, piece, wrap
from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, Severity, WorkerView
from llamatop.model.figures import duration
from llamatop.model.text import plain

_SENTENCES = {
    "no unit": "systemd knows no such unit; check its name in the cluster file",
    "stopped": "stopped, yet wanted; start it with s",
    "no answer": "its endpoint does not answer; read its log with l",
    "no key": "it wants an API key; name the variable in api_key_env of a cluster file",
    "error": "its endpoint answers with an error; read its log with l",
}
_UNHEARD = "nothing was heard of it"
_SLOW = (
    "it lives, but its engine answers nothing: one very long step, or it hangs;"
    " read its log with l, restart it with r"
)


class Alert(Struct, frozen=True):
    """One sentence about one thing, or about `count` of them; `next` is what comes by itself.

    `takes_out` is whether it offers `f`, the drain of what is dead.
    """

    severity: Severity
    where: str
    text: str
    next: str = ""
    count: int = 1
    takes_out: bool = False


def alerts(snapshot: ClusterSnapshot, changing: Collection[str] = ()) -> list[Alert]:
    """Errors, then warnings, each in the cluster's order; none before the first tick.

    Of workers that a plan is `changing` there is none: the plan itself tells how they fare.
    """
    if snapshot.tick == 0:
        return []
    found: list[Alert] = []
    balancer = _balancer(snapshot)
    told = {alert.text for alert in balancer}
    lost = set()
    for node in snapshot.nodes:
        if not node.reachable or node.stale:
            lost.add(node.name)
        if (alert := _node(node)) is not None and alert.text not in told:
            serving = cut_off(snapshot, node)
            out = "; f takes its workers out, if nginx does not reach them either"
            found.append(
                replace(
                    alert,
                    next=f"{out if serving else ''}{alert.next}",
                    takes_out=bool(serving),
                )
            )
    faulty = cards(snapshot)
    for worker, state in zip(snapshot.workers, worker_states(snapshot.workers), strict=True):
        if worker.node in lost or worker.name in changing:
            continue
        if state.rank == FAULT or worker.fault:
            found.append(_worker(worker, state, faulty))
        elif worker.silent_seconds is not None and silent(worker):
            found.append(Alert("warning", worker.name, _SLOW))
    found += [
        _card(gpu, gpu.sample.fault, takes_out=bool(on_card(snapshot, gpu)))
        for gpu in snapshot.gpus
        if gpu.sample.fault and gpu.node not in lost
    ]
    found += [
        Alert("warning", f"{gpu.node} gpu {gpu.sample.index}", _warm(gpu))
        for gpu in snapshot.gpus
        if not gpu.sample.fault and gpu.node not in lost and hot(gpu)
    ]
    found += balancer
    # What computes on the CPU matters now, what a disk lacks once somebody asks for it.
    hinted = [worker for worker in snapshot.workers if worker.hints]
    for worker in sorted(hinted, key=lambda one: one.spilled_percent is None):
        if worker.node not in lost:
            found += [Alert("warning", worker.name, hint) for hint in worker.hints]
    return sorted(found, key=lambda alert: alert.severity != "error")


def _node(node: NodeView) -> Alert | None:
    lost = not node.reachable or node.stale
    age = f" ({duration(node.age_seconds)} old)" if lost and node.age_seconds is not None else ""
    retry = node.next_try_seconds
    again = f"; next try in {duration(retry)}" if retry is not None else ""
    if age and node.fault and node.fault.startswith(_UNHEARD):
        text = f"{_UNHEARD} for {duration(node.age_seconds)}; are the machine and its network up?"
        return Alert("error", node.name, text, again)
    if node.fault:
        return Alert("error" if lost else "warning", node.name, node.fault + age, again)
    if lost and node.age_seconds is None:
        return Alert("warning", node.name, "still connecting")
    return Alert("error", node.name, f"no answer from the node{age}", again) if lost else None


def grouped(found: Sequence[Alert]) -> list[Alert]:
    """The alerts with those that say the same as one: `node7 and 5 more`."""
    alike: dict[tuple[str, str], list[Alert]] = {}
    for alert in found:
        alike.setdefault((alert.severity, alert.text), []).append(alert)
    return [
        replace(first, where=f"{first.where} +{len(more)}", count=1 + len(more)) if more else first
        for first, *more in alike.values()
    ]


def _card(gpu: GpuView, fault: str, takes_out: bool) -> Alert:
    again = "; f takes its worker out" if takes_out else ""
    return Alert("error", f"{gpu.node} gpu {gpu.sample.index}", fault, again, takes_out=takes_out)


def _worker(worker: WorkerView, state: State, faulty: Cards) -> Alert:
    if state.rank == FAULT:
        text = worker.sample.fault or worker.unit_fault or _SENTENCES.get(state.word, state.word)
        if state.word == "no answer" and worker.sample.fault and "; " not in text:
            text += "; read its log with l, restart it with r"
        serving = worker.membership in ("in", "mixed")
        gone = serving and dead(worker, faulty) is not None
        if serving:
            text += f"; {'f' if gone else 'd'} takes it out"
        return Alert("error", worker.name, text, takes_out=gone)
    return Alert("warning", worker.name, worker.fault or "")


def _warm(gpu: GpuView) -> str:
    slowed = slowed_down(gpu)
    if (gpu.sample.temperature_celsius or 0) < HOT_CELSIUS:
        return "slowed down by its hardware; nvidia-smi -q -d PERFORMANCE tells why"
    words = "too warm, and slowed down for it" if slowed else "too warm"
    return f"{words}; look at its fans and the air around it"


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
    # nginx would refuse to reload what it cannot parse.
    if balancer.reload_pending and balancer.config_valid is not False:
        text = "a file is newer than what runs; nginx -s reload applies it"
        found.append(Alert("warning", where, text))
    return found


def lines(found: Sequence[Alert], width: int, height: int, palette: Palette) -> list[Text]:
    """At most `height` lines, long sentences wrapped while all fit; the last says what is left."""
    # No more of them than have room are looked at: a fleet may have hundreds.
    first = found[: height + 1]
    names = min(
        max((cell_len(plain(alert.where)) for alert in first), default=0), max(8, width // 3)
    )
    for whole in (True, False):
        drawn = [part for alert in first for part in _drawn(alert, names, width, palette, whole)]
        if len(drawn) <= height and len(first) == len(found):
            return drawn
    kept = max(0, height - 1)
    more = f"   and {sum(alert.count for alert in found[kept:])} more"
    return [*drawn[:kept], piece(more, palette["event.warning"])][:height]


def _drawn(alert: Alert, names: int, width: int, palette: Palette, whole: bool) -> list[Text]:
    role = f"event.{alert.severity}"
    room = max(8, width - names - 6)
    words = alert.text + alert.next
    parts = wrap(words, room) if whole else [fit(words, room)]
    drawn: list[Text] = []
    for place, part in enumerate(parts):
        text = Pieces(" ")
        if place == 0:
            text.append("✗ " if alert.severity == "error" else "▲ ", palette[role])
            text.append(fit(alert.where, names) + "  ", palette[role])
        else:
            text.append(" " * (names + 4))
        text.append(part, palette["text"])
        drawn.append(text)
    return drawn

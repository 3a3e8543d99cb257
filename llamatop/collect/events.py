"""What happened, told by comparing successive snapshots."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime

from llamatop.collect.leftovers import Leftover
from llamatop.model.cluster import Event, MemberView, Severity
from llamatop.model.observed import (
    BalancerSample,
    GpuSample,
    NodeSnapshot,
    UnitState,
    UpstreamMember,
    WorkerSample,
)
from llamatop.model.plan import Plan

KEEP = 200
REPEAT_SECONDS = 30.0
CRASH_LOOP_RESTARTS = 3
# A crash loop is the same news however often it went round.
_ROUNDS = re.compile(r"\d+ times so far(, last result [\w-]+)?")
_HEAT = ("hardware_slowdown", "hardware_thermal_slowdown", "software_thermal_slowdown")
_HEALTH_SEVERITY: dict[str, Severity] = {
    "unreachable": "error",
    "error": "error",
    "unauthorized": "warning",
}

News = tuple[Severity, str, str | None]  # severity, text, unit


class EventLog:
    """The last events, oldest first; the same sentence about the same thing comes once a while.

    What `plan` brings about while it runs is no alarm; what it does not mean to bring about is.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._events: deque[Event] = deque(maxlen=KEEP)
        self._told: dict[tuple[str | None, ...], datetime] = {}
        self._frozen: tuple[Event, ...] | None = ()
        self.plan: Plan | None = None
        self._members: dict[tuple[str, str], MemberView] | None = None
        self._listed: frozenset[tuple[str, str]] = frozenset()
        self._compared: tuple[object, object] | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """All that are kept, oldest first."""
        if self._frozen is None:
            self._frozen = tuple(self._events)
        return self._frozen

    def add(self, event: Event, about: str = "") -> bool:
        """Keep the event; False where the same was told less than half a minute ago.

        `about` parts what happened twice, yet reads the same.
        """
        text = _ROUNDS.sub("", event.text)
        key = (event.node, event.worker, event.severity, text, about)
        last = self._told.get(key)
        if last is not None and 0 <= (event.at - last).total_seconds() < REPEAT_SECONDS:
            return False
        self._told[key] = event.at
        if len(self._told) > 4 * KEEP:
            newest = sorted(self._told.items(), key=lambda item: item[1])[-KEEP:]
            self._told = dict(newest)
        self._events.append(event)
        self._frozen = None
        return True

    def tell(
        self,
        severity: Severity,
        text: str,
        node: str | None = None,
        worker: str | None = None,
        about: str = "",
    ) -> bool:
        """Keep an event that happened now."""
        return self.add(Event(self._now(), severity, text, node, worker), about)

    def compare(self, before: NodeSnapshot, after: NodeSnapshot, names: Mapping[str, str]) -> bool:
        """Keep what changed on one node; `names` gives each unit's worker. True where anything."""
        told = False
        for severity, text, unit in node_news(before, after, _touched(self.plan, after.name)):
            told |= self.tell(severity, text, after.name, names.get(unit or ""))
        return told

    def take_members(
        self, node: str, members: Sequence[MemberView], listed: Sequence[UpstreamMember]
    ) -> bool:
        """Keep what changed in the upstreams of the balancer `node` since the last call.

        `members` are those of this cluster. A server line of `listed` that is only now known to
        be one of them was not added.
        """
        if self._compared is not None and all(
            one is was for one, was in zip(self._compared, (members, listed), strict=True)
        ):
            return False
        self._compared = (members, listed)
        old, were = self._members, self._listed
        new = {(member.upstream, member.address): member for member in members}
        are = frozenset((line.upstream, line.address) for line in listed)
        self._members, self._listed = new, are
        if old is None:
            return False
        told = False
        for key, member in new.items():
            was = old.get(key)
            if was is None and key not in were:
                text = f"{member.address} was added to {member.upstream}"
            elif was is not None and was.state != member.state:
                text = f"{member.address} in {member.upstream}: {was.state} → {member.state}"
            else:
                continue
            told |= self.tell("info", text, node, member.worker)
        for key, member in old.items():
            if key not in new and key not in are:
                text = f"{member.address} was removed from {member.upstream}"
                told |= self.tell("warning", text, node, member.worker)
        return told

    def compare_left(
        self, node: str, before: tuple[Leftover, ...], after: tuple[Leftover, ...]
    ) -> bool:
        """Tell of what a plan left drained, once for each."""
        told = False
        known = {(one.plan, one.member) for one in before}
        for one in after:
            if (one.plan, one.member) not in known:
                told |= self.tell("warning", str(one), node, one.worker, one.plan)
        return told


def _touched(plan: Plan | None, node: str) -> frozenset[str | None]:
    """The units of a node that the plan acts on; None stands for nginx and its files."""
    steps = [step for step in plan.steps if step.node == node] if plan is not None else []
    nginx = any(step.kind == "membership" or step.unit == "nginx.service" for step in steps)
    units = frozenset(step.unit for step in steps if step.unit)
    return units | {None} if nginx else units


def node_news(
    before: NodeSnapshot, after: NodeSnapshot, touched: Container[str | None] = ()
) -> Iterator[News]:
    """What changed from one snapshot of a node to the next; what did not change costs nothing.

    `touched` are the units that a plan of ours acts on just now, None for nginx.
    """
    if before.reachable != after.reachable or before.received_at is None:
        if after.reachable:
            if before.received_at is not None or "node" in before.faults:
                restarted = before.host.boot_id not in (None, after.host.boot_id)
                yield "info", "the node is back" + (" after a reboot" if restarted else ""), None
        elif before.faults.get("node") != after.faults.get("node"):
            cause = after.faults.get("node", "no cause is known")
            yield "error", cause, None
    if not after.reachable or before.received_at is None:
        return
    for name, unit in after.units.items():
        was = before.units.get(name)
        # The first listing is no news.
        if was is not unit and before.units:
            yield from _unit_news(was, unit)
    for name in before.units.keys() - after.units.keys():
        yield "warning", f"{name} is gone", name
    for name, worker in after.workers.items():
        seen = before.workers.get(name)
        if seen is not None and seen is not worker:
            yield from _worker_news(seen, worker, name in touched)
    for uuid, gpu in after.gpus.items():
        card = before.gpus.get(uuid)
        if card is not None and card is not gpu:
            yield from _gpu_news(card, gpu)
    for uuid in before.gpus.keys() - after.gpus.keys():
        yield "error", f"card {_card(before.gpus[uuid])} is no longer there", None
    if before.balancer is not None and after.balancer is not None:
        yield from _balancer_news(before.balancer, after.balancer, None in touched)


def _unit_news(was: UnitState | None, unit: UnitState) -> Iterator[News]:
    if was is None:
        yield "info", f"{unit.name} appeared ({unit.active_state})", unit.name
        return
    restarts = (unit.restarts or 0) - (was.restarts or 0)
    if restarts > 0:
        looping = (unit.restarts or 0) >= CRASH_LOOP_RESTARTS
        text = f"{unit.name} was restarted by systemd ({unit.restarts} times so far"
        text += f", last result {unit.result})" if unit.result not in (None, "success") else ")"
        yield "error" if looping else "warning", text, unit.name
    if unit.active_state != was.active_state or unit.sub_state != was.sub_state:
        if unit.sub_state == "auto-restart" or was.sub_state == "auto-restart":
            return
        severity: Severity = "error" if unit.active_state == "failed" else "info"
        result = f", result {unit.result}" if unit.active_state == "failed" else ""
        text = f"{unit.name}: {was.active_state} ({was.sub_state}) → "
        text += f"{unit.active_state} ({unit.sub_state}{result})"
        yield severity, text, unit.name
    if unit.need_daemon_reload and not was.need_daemon_reload:
        yield "warning", f"{unit.name} changed on disk; systemctl daemon-reload", unit.name
    if unit.unit_file_state != was.unit_file_state and unit.unit_file_state is not None:
        yield "info", f"{unit.name} is {unit.unit_file_state} now", unit.name


def _worker_news(was: WorkerSample, worker: WorkerSample, touched: bool) -> Iterator[News]:
    health = {"busy": "ok"}.get(worker.health or "", worker.health)
    before = {"busy": "ok"}.get(was.health or "", was.health)
    if touched and health in ("unreachable", "error") and health != before:
        yield "info", f"{worker.unit} does not answer while the plan runs", worker.unit
    elif health is not None and health != before:
        cause = f": {worker.fault}" if worker.fault and health not in ("ok", "loading") else ""
        text = f"{worker.unit} is {health}{cause}"
        yield _HEALTH_SEVERITY.get(health, "info"), text, worker.unit
    if worker.sleeping != was.sleeping and None not in (worker.sleeping, was.sleeping):
        verb = "fell asleep" if worker.sleeping else "woke up"
        yield "info", f"{worker.unit} {verb}", worker.unit
    if worker.model != was.model and worker.model and was.model:
        yield "info", f"{worker.unit} serves {worker.model} now", worker.unit


def _gpu_news(was: GpuSample, gpu: GpuSample) -> Iterator[News]:
    if gpu.fault != was.fault:
        if gpu.fault is not None:
            yield "error", f"card {_card(gpu)}: {gpu.fault}", None
        else:
            yield "info", f"card {_card(gpu)} answers again", None
    hot = _heat(gpu)
    if hot and not _heat(was):
        degrees = "" if gpu.temperature_celsius is None else f" at {gpu.temperature_celsius:.0f} °C"
        yield "warning", f"card {_card(gpu)} is slowed down ({', '.join(hot)}){degrees}", None


def _balancer_news(was: BalancerSample, balancer: BalancerSample, touched: bool) -> Iterator[News]:
    if balancer.reload_pending and not was.reload_pending and not touched:
        yield "warning", "nginx's files are newer than what runs: a reload is pending", None
    if was.reload_pending and balancer.reload_pending is False:
        yield "info", "nginx was reloaded", None
    if balancer.config_valid is False and was.config_valid is not False:
        yield "error", f"nginx's configuration is invalid: {balancer.config_error}", None
    if was.config_valid is False and balancer.config_valid:
        yield "info", "nginx's configuration is valid again", None
    if balancer.running is not None and was.running is not None:
        if was.running and not balancer.running:
            yield "info" if touched else "error", "nginx no longer runs", None
        elif balancer.running and not was.running:
            yield "info", "nginx runs", None


def _heat(gpu: GpuSample) -> list[str]:
    return [reason for reason in gpu.throttle or () if reason in _HEAT or "thermal" in reason]


def _card(gpu: GpuSample) -> str:
    name = f" ({gpu.name})" if gpu.name else ""
    return f"{gpu.index}{name}" if gpu.index is not None else f"{gpu.uuid}{name}"

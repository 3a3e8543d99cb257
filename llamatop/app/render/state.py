"""A worker's or unit's state as one word, a mark and a role; the mark tells it without colour."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llamatop.model.cluster import WorkerView
from llamatop.model.figures import duration
from llamatop.model.observed import UnitState


class State(Struct, frozen=True):
    """`rank` sorts the worst first: 0 is a fault, 4 is fine."""

    word: str
    mark: str
    role: str
    rank: int


# Older llama-servers answer nothing within a decode, which takes up to this.
SILENT_SECONDS = 30.0
FAULT, CHANGING, BUSY, STOPPED, FINE = range(5)
UNKNOWN_STATE = State("–", "?", "dim", CHANGING)


def _fault(word: str) -> State:
    return State(word, "✗", "worker.fault", FAULT)


_UNIT = {
    "inactive": State("stopped", "○", "worker.stopped", STOPPED),
    "activating": State("starting", "◐", "worker.loading", CHANGING),
    "reloading": State("reloading", "◐", "worker.loading", CHANGING),
    "deactivating": State("stopping", "◑", "worker.busy", CHANGING),
}
_HEALTH = {
    "ok": State("ok", "✓", "worker.ok", FINE),
    "busy": State("busy", "✓", "worker.busy", BUSY),
    "loading": State("loading", "◐", "worker.loading", CHANGING),
    "unreachable": _fault("no answer"),
    "unauthorized": _fault("no key"),
    "error": _fault("error"),
}
_last: tuple[Sequence[WorkerView], list[State]] = ((), [])
ASLEEP = State("asleep", "z", "worker.asleep", FINE)


def unit_state(unit: UnitState) -> State | None:
    """What systemd says where it is not simply running; None when it runs or is unknown."""
    if unit.load_state == "not-found":
        return _fault("no unit")
    if unit.active_state == "failed":
        return _fault("failed")
    if (unit.sub_state or "").startswith("auto-restart"):
        return _fault("crash loop")
    return _UNIT.get(unit.active_state or "")


def worker_state(worker: WorkerView) -> State:
    """The one state that matters most: the unit's while it does not run, else the endpoint's.

    A stopped worker that the balancer still sends to, or that is enabled and was not drained, is
    a fault: CLI.md counts it unhealthy.
    """
    state = unit_state(worker.unit)
    if state is not None:
        wanted = worker.membership in ("in", "mixed") or (
            worker.unit.unit_file_state == "enabled"
            and worker.membership not in ("down", "draining")
        )
        if state.rank == STOPPED and wanted:
            return State("stopped", "✗", "worker.fault", FAULT)
        return state
    if worker.sample.sleeping:
        return ASLEEP
    if silent(worker):
        return State(f"slow {duration(worker.silent_seconds)}", "▲", "worker.loading", CHANGING)
    return _HEALTH.get(worker.sample.health or "", UNKNOWN_STATE)


def silent(worker: WorkerView) -> bool:
    """Whether it lives but has told nothing for longer than most steps of an engine take."""
    return worker.sample.health == "busy" and (worker.silent_seconds or 0.0) >= SILENT_SECONDS


def worker_states(workers: Sequence[WorkerView]) -> list[State]:
    """The state of each; asked again for the same snapshot's, they are not worked out again."""
    global _last
    if _last[0] is not workers:
        _last = (workers, [worker_state(worker) for worker in workers])
    return _last[1]


def bare_unit_state(unit: UnitState) -> State:
    """The state of a unit with no endpoint, a tunnel or nginx."""
    state = unit_state(unit)
    if state is not None:
        return state
    if unit.active_state == "active":
        return State("running", "✓", "worker.ok", FINE)
    return UNKNOWN_STATE


MEMBERSHIP = {
    "in": ("in", "member.in"),
    "down": ("down", "member.down"),
    "draining": ("draining", "member.draining"),
    "absent": ("absent", "member.absent"),
    "mixed": ("mixed", "member.mixed"),
}

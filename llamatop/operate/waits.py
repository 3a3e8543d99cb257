"""When a worker is drained, when a unit is healthy: judged from snapshots, never by sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from llamatop.collect import addresses
from llamatop.errors import NodeError
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import UnitState
from llamatop.model.plan import Step

from .control import Control
from .failure import StepFailed
from .live import LiveSource

# How long nothing is heard of a worker until it is given up: without and with open connections.
GONE_SECONDS = 10.0
HELD_SECONDS = 30.0
ANSWERS = ("ok", "busy", "unauthorized")


class Verdict(Struct, frozen=True):
    """Whether the wait is over, what to show meanwhile, and why it can never end well."""

    done: bool
    progress: str
    failed: str | None = None


def drained(snapshot: ClusterSnapshot, step: Step) -> Verdict:
    """Nothing runs on the member: no busy slot, nothing deferred, no old nginx worker's connection.

    What is unknown counts neither way; where nothing is known it is not drained.
    """
    worker = worker_of(snapshot, step)
    connections = _connections(snapshot, step)
    slots, deferred = (
        (worker.slots_busy, worker.sample.requests_deferred) if worker else (None,) * 2
    )
    if worker is not None and worker.unit.active_state in ("inactive", "failed"):
        slots, deferred = 0, 0
    unknown = _silent(snapshot, step)
    parts = []
    if slots is not None:
        parts.append(f"{slots} busy slot{'' if slots == 1 else 's'}")
    if deferred:
        parts.append(f"{deferred} waiting")
    if connections is not None:
        parts.append(f"{connections} connection{'' if connections == 1 else 's'} of old workers")
    parts += unknown.values()
    progress = ", ".join(parts) or "neither slots nor connections are known"
    known = slots is not None or connections is not None
    done = not unknown and known and not slots and not deferred and not connections
    return Verdict(done, progress)


class Drained:
    """Judges the same over time: who has not answered for a while runs nothing that could end.

    Only for a drain by itself: what is to be stopped afterwards may still stream, unseen.
    """

    def __init__(self, step: Step, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = step
        self._clock = clock
        self._since: float | None = None

    def __call__(self, snapshot: ClusterSnapshot) -> Verdict:
        """The verdict on one snapshot, done as well where the worker is dead for long enough."""
        verdict = drained(snapshot, self._step)
        gone = _gone(snapshot, self._step)
        if gone is None:
            self._since = None
            return verdict
        if self._since is None:
            self._since = self._clock()
        spent = self._clock() - self._since
        held = _connections(snapshot, self._step)
        worker = worker_of(snapshot, self._step)
        if held == 0 and worker is not None and not snapshot.node(worker.node).reachable:
            spent = max(spent, snapshot.node(worker.node).age_seconds or 0.0)
        if not verdict.done and spent >= (GONE_SECONDS if held == 0 else HELD_SECONDS):
            return Verdict(True, f"{gone}, for {spent:.0f} s: what ran there is lost")
        return verdict


class Healthy:
    """Judges that a unit is active and its worker answers, from the first look on.

    A unit without a worker has to be seen twice with the same main process.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._first: UnitState | None = None

    def __call__(self, snapshot: ClusterSnapshot) -> Verdict:
        """The verdict on one snapshot; a failed or flapping unit can never end well."""
        step = self._step
        unit = unit_of(snapshot, step)
        silent = _silent(snapshot, step)
        words = ", ".join(silent.values())
        if unit is None:
            return Verdict(False, words or f"{step.unit} was not read yet")
        state = f"{unit.active_state}/{unit.sub_state}"
        if silent:
            return Verdict(False, f"{state}, {words}")
        first, self._first = self._first, self._first or unit
        if unit.active_state in ("failed", "inactive"):
            return Verdict(
                False, state, f"it is {unit.active_state} ({unit.result or 'no result'})"
            )
        restarts = unit.restarts or 0
        if unit.sub_state == "auto-restart" or restarts > (self._first.restarts or 0):
            why = f" ({unit.result})" if unit.result else ""
            return Verdict(False, state, f"it fails and systemd starts it again{why}")
        worker = worker_of(snapshot, step) if step.worker else None
        if worker is None:
            same = first is not None and first.main_pid == unit.main_pid
            return Verdict(unit.active_state == "active" and same, state)
        done = unit.active_state == "active" and worker.sample.health in ANSWERS
        return Verdict(done, f"{state}, {worker.sample.health or 'no answer yet'}")


async def wait(
    source: LiveSource,
    step: Step,
    judge: Callable[[ClusterSnapshot], Verdict],
    progress: Callable[[str], None],
    control: Control | None = None,
) -> str:
    """Judge fresh snapshots until done; returns what is not done where `control` forces it.

    That it is done is believed only of figures that were all asked for after it seemed so.
    Raises StepFailed when it cannot end well, or when time is up and `control`, where there is one,
    does not have it go on.
    """
    began = time.monotonic()
    allowed = step.timeout_seconds
    looked = await look(source, _asked(source.latest, step))
    snapshots = source.snapshots()
    coming: asyncio.Future[ClusterSnapshot] | None = None
    try:
        snapshot = source.latest
        while True:
            verdict = judge(snapshot)
            if verdict.done and not looked:
                looked = await look(source, _asked(source.latest, step))
                verdict = judge(source.latest)
            if verdict.done and looked:
                return ""
            if verdict.failed is not None:
                raise StepFailed(verdict.failed)
            spent = time.monotonic() - began
            asked = ""
            if spent >= allowed:
                answer = control.late() if control is not None else "undo"
                if answer == "undo":
                    raise StepFailed(f"not done after {round(allowed, 2):g} s: {verdict.progress}")
                if answer == "force":
                    return f"went on with {verdict.progress}"
                if answer == "wait":
                    allowed = spent + step.timeout_seconds
                else:
                    asked = ", late: keep waiting, force or undo?"
            progress(f"{verdict.progress}, {spent:.0f} s{asked}")
            coming = coming or asyncio.ensure_future(anext(snapshots))
            if await _first(coming, None if asked else allowed - spent, control):
                snapshot, coming, looked = coming.result(), None, False
    except StopAsyncIteration:
        raise StepFailed("the cluster is no longer being read") from None
    finally:
        if control is not None:
            control.in_time()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming
        close = getattr(snapshots, "aclose", None)
        if close is not None:
            await close()


async def _first(
    coming: asyncio.Future[ClusterSnapshot], seconds: float | None, control: Control | None
) -> bool:
    """Wait for the snapshot, for an answer, or for the time to be up; whether it was the first."""
    waiting: set[asyncio.Future[Any]] = {coming}
    if control is not None:
        waiting.add(asyncio.ensure_future(control.answered()))
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting - {coming}:
            one.cancel()
    return coming.done()


async def look(source: LiveSource, nodes: list[str]) -> bool:
    """Have the nodes read at once; False where one does not answer: its figures stay, and age."""

    async def one(node: str) -> bool:
        with contextlib.suppress(NodeError):
            await source.refresh(node)
            return True
        return False

    return all(await asyncio.gather(*(one(node) for node in nodes)))


def nodes_of(snapshot: ClusterSnapshot, step: Step) -> list[str]:
    """The nodes that tell how a step stands: the unit's, the worker's, the balancer's."""
    worker = worker_of(snapshot, step)
    nodes = [step.node] + ([worker.node] if worker else [])
    if step.kind == "wait-drained" and snapshot.balancer_node is not None:
        nodes.append(snapshot.balancer_node)
    return list(dict.fromkeys(nodes))


def _asked(snapshot: ClusterSnapshot, step: Step) -> list[str]:
    """Those of them to look at again: of a node that is gone, `drained` says that it is."""
    nodes = nodes_of(snapshot, step)
    if step.kind != "wait-drained":
        return nodes
    gone = {node.name for node in snapshot.nodes if not node.reachable}
    return [node for node in nodes if node not in gone or node == snapshot.balancer_node]


def _gone(snapshot: ClusterSnapshot, step: Step) -> str | None:
    """That the worker does not answer or its node does not, where the balancer can be read."""
    worker = worker_of(snapshot, step)
    stale = {node.name for node in snapshot.nodes if node.stale}
    if worker is None or snapshot.balancer_node in stale:
        return None
    if not snapshot.node(worker.node).reachable:
        return f"{worker.node} does not answer"
    if worker.node not in stale and worker.sample.health == "unreachable":
        return f"{worker.name} does not answer"
    return None


def worker_of(snapshot: ClusterSnapshot, step: Step) -> WorkerView | None:
    """The step's worker in this snapshot, None where it has none or it is gone."""
    return next((w for w in snapshot.workers if w.name == step.worker), None)


def unit_of(snapshot: ClusterSnapshot, step: Step) -> UnitState | None:
    """The step's unit in this snapshot, None where it was not read."""
    for node in snapshot.nodes:
        if node.name == step.node and step.unit is not None:
            return node.snapshot.units.get(step.unit)
    return None


def _silent(snapshot: ClusterSnapshot, step: Step) -> dict[str, str]:
    """The nodes whose figures say nothing now, with what to say of each."""
    silent = {}
    for node in snapshot.nodes:
        if not node.reachable:
            silent[node.name] = f"{node.name} does not answer"
        elif node.stale:
            silent[node.name] = f"{node.name} is late ({node.age_seconds or 0.0:.0f} s)"
    found = {name: silent[name] for name in nodes_of(snapshot, step) if name in silent}
    worker = worker_of(snapshot, step)
    if worker is not None and worker.node not in found:
        age = snapshot.node(worker.node).snapshot.ages.get(f"workers/{worker.unit.name}")
        if age is not None:
            found[worker.name] = f"{worker.name} is slow to answer ({age:.0f} s)"
    for node in snapshot.nodes:
        age = node.snapshot.ages.get("units")
        if node.name == step.node and node.name not in found and age is not None:
            found[node.name] = f"systemctl on {node.name} is slow to answer ({age:.0f} s)"
        age = node.snapshot.ages.get("balancer") if step.kind == "wait-drained" else None
        if node.name == snapshot.balancer_node and node.name not in found and age is not None:
            found[node.name] = f"nginx on {node.name} is slow to answer ({age:.0f} s)"
    return found


def _connections(snapshot: ClusterSnapshot, step: Step) -> int | None:
    """What old nginx workers still hold to the step's members, None where that cannot be told.

    The node counts by address and port: a server by name or on a socket file is not among them.
    """
    balancer = snapshot.balancer
    if balancer is None:
        return None
    if balancer.draining_processes == 0:
        return 0
    if balancer.draining_connections is None:
        return None
    wanted = {_place(address) for _, address in step.members}
    if None in wanted:
        files = any(address.startswith("unix:") for _, address in step.members)
        return 0 if balancer.draining_connections == {} and not files else None
    held = balancer.draining_connections.items()
    return sum(count for address, count in held if _place(address) in wanted)


def _place(address: str) -> tuple[str, int] | None:
    """A literal address and its port in one spelling, None for a name or a socket file."""
    parsed = addresses.parse(address, 80)
    if parsed is None:
        return None
    try:
        return str(ipaddress.ip_address(parsed.host)), parsed.port
    except ValueError:
        return None

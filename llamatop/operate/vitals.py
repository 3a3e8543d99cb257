"""Which worker to take out of the upstream, or to put back, judged over many ticks.

What was taken out so is read from the record on the balancer, which outlives this process and is
shared by all: see `probe.drains`. Where it could not be written, memory has to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Literal

from msgspec import Struct, field

from llamatop.advise.dead import Cards, cards, dead, silent
from llamatop.collect import leftovers
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.probe.drains import AGAIN_SECONDS

SURE_TICKS = 5
WELL_TICKS = 10
LOOP_SECONDS = 60.0
LOOP_RESTARTS = 3
_GAP_TICKS = 10


class Move(Struct, frozen=True):
    """What to do with which worker, and why as half a sentence."""

    action: Literal["drain", "undrain"]
    worker: str
    why: str


class _Pulse(Struct):
    """One worker over time: for how many ticks it was dead, or well; when systemd restarted it."""

    dead_ticks: int = 0
    well_ticks: int = 0
    why: str = ""
    restarts: deque[tuple[float, int]] = field(default_factory=deque)


class Vitals:
    """Remembers each worker's ticks, and what was taken out by its word.

    A tick counts only where the worker's node and the balancer were both read just now, and what
    was counted before a gap is forgotten. Who was put back and died again within the hour has to
    be well twice as long the next time. What a person put in or drained since is the person's.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pulses: dict[str, _Pulse] = {}
        self._out: set[str] = set()
        self._recorded: set[str] = set()
        self._in_ticks: dict[tuple[str, tuple[str, str]], int] = {}
        # How often within the hour: by the records, and when by this process.
        self._times: dict[str, int] = {}
        self._taken_at: dict[str, list[float]] = {}
        self._looked_at = clock()

    def look(self, snapshot: ClusterSnapshot, later: Collection[str] = ()) -> Move | None:
        """The one move that this tick makes certain, if any: who is dead goes first.

        Those named in `later` wait, and hold up no other.
        """
        found = None
        before, self._looked_at = self._looked_at, self._clock()
        stale = {node.name for node in snapshot.nodes if node.stale or not node.reachable}
        late = self._looked_at - before > _GAP_TICKS * snapshot.cluster.interval_seconds
        blind = snapshot.balancer_node is None or snapshot.balancer_node in stale
        if late or blind:
            self._pulses.clear()
        if blind:
            return None
        self._remember(snapshot)
        old = silent(snapshot)
        seen = {worker.name for worker in snapshot.workers if worker.node not in old}
        for name in self._pulses.keys() - seen:
            del self._pulses[name]
        faulty = cards(snapshot)
        back = None
        for worker in snapshot.workers:
            if worker.name not in seen or worker.membership is None:
                continue
            pulse = self._pulses.setdefault(worker.name, _Pulse())
            self._feel(worker, pulse, faulty)
            if worker.membership == "in":
                if pulse.dead_ticks >= SURE_TICKS and worker.name not in later:
                    found = found or Move("drain", worker.name, pulse.why)
            elif worker.name not in later and self._out_and_well(worker, pulse):
                back = back or Move("undrain", worker.name, "it serves again")
        return found or back

    def moved(self, move: Move) -> None:
        """The move was made: only what went out so comes back so."""
        self._pulses.pop(move.worker, None)
        if move.action == "drain":
            self._out.add(move.worker)
            self._taken_at.setdefault(move.worker, []).append(self._clock())
        else:
            self._out.discard(move.worker)

    def _remember(self, snapshot: ClusterSnapshot) -> None:
        """What auto-drain has out now, by the records; by memory where one was not written."""
        taken: dict[str, set[tuple[str, str]]] = {}
        self._times = {}
        for one in leftovers.find(snapshot.balancer, snapshot.members):
            overruled = self._in_ticks.get((one.plan, one.member), 0) >= SURE_TICKS
            if one.auto and one.own and one.worker is not None and not overruled:
                taken.setdefault(one.worker, set()).add(one.member)
                self._times[one.worker] = max(self._times.get(one.worker, 0), one.times)
        up = {(m.upstream, m.address) for m in snapshot.members if m.state == "in"}
        # A line that was put in by hand, unrecorded, is no longer ours when it goes out again.
        for line in snapshot.balancer.left if snapshot.balancer is not None else ():
            key = line.plan, (line.upstream, line.address)
            if line.auto and key[1] in up:
                self._in_ticks[key] = self._in_ticks.get(key, 0) + 1
        for worker in snapshot.workers:
            name = worker.name
            if name in taken and taken[name].issuperset(worker.members):
                self._out.add(name)
                self._recorded.add(name)
            elif name in self._recorded or worker.membership == "in":
                self._out.discard(name)
                self._recorded.discard(name)

    def _out_and_well(self, worker: WorkerView, pulse: _Pulse) -> bool:
        out = worker.name in self._out and worker.membership == "down"
        return out and pulse.well_ticks >= self._patience(worker.name)

    def _patience(self, worker: str) -> int:
        since = self._looked_at - AGAIN_SECONDS
        seen = self._taken_at[worker] = [t for t in self._taken_at.get(worker, ()) if t > since]
        times = max(len(seen), self._times.get(worker, 1))
        doubled: int = WELL_TICKS << min(times - 1, 5)
        return doubled

    def _feel(self, worker: WorkerView, pulse: _Pulse, faulty: Cards) -> None:
        why = self._looping(worker, pulse) or dead(worker, faulty)
        if why is not None:
            pulse.dead_ticks, pulse.well_ticks, pulse.why = pulse.dead_ticks + 1, 0, why
        elif worker.sample.health in ("ok", "busy"):
            pulse.dead_ticks, pulse.well_ticks = 0, pulse.well_ticks + 1
        else:
            # loading, or not known: neither dead nor well
            pulse.dead_ticks = pulse.well_ticks = 0

    def _looping(self, worker: WorkerView, pulse: _Pulse) -> str | None:
        """Why a worker that systemd starts again and again is dead, though it runs at moments."""
        now, count = self._clock(), worker.unit.restarts
        if count is None:
            return None
        seen = pulse.restarts
        if not seen or seen[-1][1] != count:
            if seen and count < seen[-1][1]:
                seen.clear()
            seen.append((now, count))
        while len(seen) > 1 and seen[1][0] < now - LOOP_SECONDS:
            seen.popleft()
        more = count - seen[0][1]
        if more < LOOP_RESTARTS or seen[-1][0] < now - LOOP_SECONDS:
            return None
        result = worker.unit.result
        why = f", last result {result}" if result not in (None, "success") else ""
        return f"its unit died {more} times within a minute{why}"

"""Members of a node that is lost, where the balancer reaches them no more than we do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from msgspec import Struct

from llamatop.errors import LlamatopError
from llamatop.model.cluster import ClusterSnapshot, WorkerView

from .live import Fleet
from .reach import cut_off
from .vitals import Move

LOST_SECONDS = 15.0
CUT_OFF_SECONDS = 15.0
AGAIN_SECONDS = 5.0
_AT_ONCE = 8


class _Asked(Struct):
    """What the balancer found at a worker's members: cut off since when, asked when last."""

    at: float
    since: float | None = None
    why: str = ""


class LostNodes:
    """Asks the balancer about the members of nodes that were lost a while ago, a few at a time.

    That a node is lost is this side's view alone, whose own link may be the one that is down. So
    a member counts as dead where the balancer gets no answer by any of its addresses either, each
    time that it is asked over a quarter of a minute. It asks nothing while all nodes are there.
    """

    def __init__(self, machines: Fleet, clock: Callable[[], float]) -> None:
        self._machines = machines
        self._clock = clock
        self._lost: dict[str, float] = {}
        self._asked: dict[str, _Asked] = {}
        self._asking: asyncio.Task[None] | None = None

    def look(self, snapshot: ClusterSnapshot, later: Collection[str] = ()) -> tuple[Move, ...]:
        """The workers of one lost node that are surely cut off; those named in `later` wait."""
        now = self._clock()
        stale = {node.name for node in snapshot.nodes if node.stale or not node.reachable}
        if snapshot.balancer_node is None or snapshot.balancer_node in stale:
            self._lost.clear()
            self._asked.clear()
            return ()
        lost = {node.name: node for node in snapshot.nodes if not node.reachable and node.fault}
        self._lost = {name: self._lost.get(name, now) for name in lost}
        members = [
            worker
            for worker in snapshot.workers
            if now - self._lost.get(worker.node, now) >= LOST_SECONDS
            and worker.membership == "in"
            and worker.name not in later
        ]
        for name in self._asked.keys() - {worker.name for worker in members}:
            del self._asked[name]
        self._ask(snapshot.balancer_node, members, now)
        sure = [worker for worker in members if self._sure(worker.name, now)]
        return tuple(
            Move("drain", worker.name, self._why(worker, lost[worker.node].fault or "", snapshot))
            for worker in sure
            if worker.node == sure[0].node
        )

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _sure(self, name: str, now: float) -> bool:
        asked = self._asked.get(name)
        return (
            asked is not None
            and asked.since is not None
            and asked.at - asked.since >= CUT_OFF_SECONDS
            and now - asked.at < 2 * CUT_OFF_SECONDS
        )

    def _why(self, worker: WorkerView, fault: str, snapshot: ClusterSnapshot) -> str:
        return (
            f"{worker.node} is lost ({fault}), and {snapshot.balancer_node} does not reach it"
            f" either: {self._asked[worker.name].why}"
        )

    def _ask(self, balancer: str, members: Collection[WorkerView], now: float) -> None:
        if self._asking is not None and not self._asking.done():
            return
        due = [
            worker
            for worker in members
            if worker.name not in self._asked or now - self._asked[worker.name].at >= AGAIN_SECONDS
        ]
        # Those that were asked longest ago go first, so that none waits for ever.
        due.sort(key=lambda w: self._asked[w.name].at if w.name in self._asked else 0.0)
        if due:
            self._asking = asyncio.create_task(self._round(balancer, due[:_AT_ONCE]))

    async def _round(self, balancer: str, workers: Collection[WorkerView]) -> None:
        await asyncio.gather(*(self._one(balancer, worker) for worker in workers))

    async def _one(self, balancer: str, worker: WorkerView) -> None:
        asked = self._asked.setdefault(worker.name, _Asked(self._clock()))
        try:
            machine = self._machines.machine(balancer)
            found = [(await cut_off(machine, address), address) for _, address in worker.members]
        except LlamatopError:
            found = []
        asked.at = self._clock()
        faults = [f"{address}: {why}" for why, address in found if why is not None]
        if not found or len(faults) < len(found):
            asked.since = None
            return
        asked.since = asked.at if asked.since is None else asked.since
        asked.why = faults[0]

"""Dead workers taken out of the upstream without being asked, and put back once they are well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from llamatop.errors import LlamatopError, Refused
from llamatop.model.cluster import Event, Severity

from .live import Fleet, LiveSource
from .lost import LostNodes
from .operator import Operator
from .vitals import Move, Vitals

AGAIN_SECONDS = 60.0
DRAIN_SECONDS = 60.0
_SO_ALREADY = {"drain": ("down", "draining"), "undrain": ("in",)}


class AutoDrain:
    """Makes one plan at a time, within the same guards as a person's, its reason in every log.

    `busy` tells that a plan of the person's own is at hand, which goes first. Members of a node
    that is lost are asked for on the balancer, by `machines`.
    """

    def __init__(
        self,
        source: LiveSource,
        operator: Operator,
        machines: Fleet,
        *,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._operator = operator
        self._busy = busy
        self._clock = clock
        self._vitals = Vitals(clock)
        self._lost = LostNodes(machines, clock)
        self._refused: dict[str, tuple[float, str]] = {}

    async def run(self) -> None:
        """Until cancelled; a plan that runs then is rolled back first."""
        self._tell("info", "auto-drain is on: dead members are taken out, and put back when well")
        try:
            await self._run()
        finally:
            await self._lost.close()

    async def _run(self) -> None:
        tick = -1
        async for snapshot in self._source.snapshots():
            if snapshot.tick == tick:
                continue
            tick = snapshot.tick
            later = self._later()
            move = self._vitals.look(snapshot, later)
            moves = (move,) if move is not None else self._lost.look(snapshot, later)
            if moves and not self._busy():
                await self._make(moves)
                me = asyncio.current_task()
                # A plan that was cancelled in its last step is done, and says no more of it.
                if me is not None and me.cancelling():
                    return

    def _later(self) -> list[str]:
        """Whose last plan was refused or failed a moment ago."""
        now = self._clock()
        return [name for name, (at, _) in self._refused.items() if now - at < AGAIN_SECONDS]

    async def _make(self, moves: Sequence[Move]) -> None:
        """One plan for all of them; where the guards object to that, one for each."""
        action, names = moves[0].action, [move.worker for move in moves]
        try:
            plan = await self._operator.plan(action, names, timeout_seconds=DRAIN_SECONDS)
            if plan.steps:
                plan = replace(plan, reason=f"auto-drain: {moves[0].why}", automatic=True)
                async for _ in self._operator.execute(plan):
                    pass
        except Exception as error:  # noqa: BLE001 - one plan that breaks must not end the others
            alone = len(moves) == 1 or not isinstance(error, Refused)
            for move in moves:
                if alone:
                    self._failed(move, error)
                else:
                    await self._make([move])
            return
        for move in moves:
            if plan.steps:
                self._refused.pop(move.worker, None)
                self._vitals.moved(move)
            else:
                # Another hand was quicker, and what it did is not ours to take back.
                self._refused[move.worker] = (self._clock(), "")

    def _failed(self, move: Move, error: Exception) -> None:
        """Tell of it once; nothing where another llamatop has just done the same."""
        now = self._clock()
        if isinstance(error, LlamatopError) and self._so_already(move):
            self._refused[move.worker] = (now, "")
            return
        known = isinstance(error, LlamatopError)
        fault = str(error) if known else f"{type(error).__name__}: {error}"
        text = f"auto-drain did not {move.action} {move.worker} ({move.why}): {fault}"
        before = self._refused.get(move.worker)
        self._refused[move.worker] = (now, text)
        if before is None or before[1] != text:
            self._tell("warning", text, move.worker)

    def _so_already(self, move: Move) -> bool:
        workers = self._source.latest.workers
        states = {worker.name: worker.membership for worker in workers}
        return states.get(move.worker) in _SO_ALREADY[move.action]

    def _tell(self, severity: Severity, text: str, worker: str | None = None) -> None:
        node = worker.partition("/")[0] if worker else None
        self._source.announce(Event(datetime.now(UTC), severity, text, node, worker))

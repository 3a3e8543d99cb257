"""Findings on the dashboard: judged anew now and then, never where a key would have to wait."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from llamatop.model.cluster import ClusterSnapshot

if TYPE_CHECKING:
    from llamatop.advise.doctor import Diagnosis
    from llamatop.app.app import LlamatopApp

# Workers and cards that are judged within a millisecond or two; more of them in a thread.
AT_ONCE = 100
# The pause lasts longer where judging takes more of the processor than this, up to thrice as long.
QUICK_SECONDS = 0.04
_RULES = "llamatop.advise.doctor"


def judged(snapshot: ClusterSnapshot) -> Diagnosis:
    """What all rules say of it; they are loaded at the first one, not before the first screen."""
    from llamatop.advise.doctor import judge

    return judge(snapshot)


def _timed(snapshot: ClusterSnapshot) -> tuple[Diagnosis, float]:
    """What all rules say, and how much of the processor it took them."""
    begun = time.thread_time()
    return judged(snapshot), time.thread_time() - begun


class Judging:
    """The latest diagnosis: of each snapshot, of a fleet's at most every `pause_seconds`.

    None is made while nothing of it would be seen.
    """

    pause_seconds = 10.0

    def __init__(self, app: LlamatopApp) -> None:
        self.diagnosis: Diagnosis | None = None
        self._app = app
        self._resting = self._busy = False
        self._waiting: ClusterSnapshot | None = None
        self._unseen: ClusterSnapshot | None = None

    def seen(self) -> None:
        """Something of it may be seen again."""
        if self._unseen is not None:
            self.take(self._unseen)

    def take(self, snapshot: ClusterSnapshot) -> None:
        """A newer snapshot: judge it, or the newest there is when the pause is over."""
        if snapshot.tick == 0:
            return
        if self._app.totals_only():
            self._unseen, self._waiting = snapshot, None
            return
        self._unseen = None
        few = len(snapshot.workers) + len(snapshot.gpus) <= AT_ONCE
        # Loading the rules takes many milliseconds, for which no key would be answered.
        if few and not self._busy and _RULES in sys.modules:
            self._waiting = None
            self.diagnosis = judged(snapshot)
        elif self._resting:
            self._waiting = snapshot
        else:
            self._resting, self._busy, self._waiting = True, True, None
            self._app.run_worker(self._judge(snapshot), name="judge")

    async def _judge(self, snapshot: ClusterSnapshot) -> None:
        try:
            self.diagnosis, spent = await asyncio.to_thread(_timed, snapshot)
        finally:
            self._busy = False
        self._app.draw()
        pause = self.pause_seconds * min(3.0, max(1.0, spent / QUICK_SECONDS))
        self._app.set_timer(pause, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self._waiting is not None:
            self.take(self._waiting)

"""A recording as a source: it plays, stands still, steps, and goes to any moment."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from llamatop.collect.source import Position
from llamatop.errors import NodeError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Cluster
from llamatop.record.past import Past
from llamatop.record.reader import Recording
from llamatop.record.restore import Decoder

SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# However fast it plays, the screen is drawn no oftener.
DRAW_SECONDS = 0.1
# A session that stood still (a suspended laptop) is not waited for in full.
LONGEST_GAP_SECONDS = 10.0


class Player:
    """Implements `Playback` over a recording, which is read in a thread.

    Raises RecordingError where the file at `path` is none. It begins to play at its first frame.
    """

    def __init__(self, path: Path) -> None:
        self._recording = Recording(path)
        self._times: list[float] = []
        frames = self._recording.frames
        passed = 0.0
        for place, frame in enumerate(frames):
            if place:
                gap = (frame.at - frames[place - 1].at).total_seconds()
                passed += min(gap, LONGEST_GAP_SECONDS)
            self._times.append(passed)
        self._decoder = Decoder()
        self._latest = self._snapshot(0)
        self._past = Past(self._recording, self._latest.cluster.interval_seconds)
        self._place = 0
        self._wanted = 0
        self._paused = False
        self._speed = 1.0
        # When, by the loop's clock, which moment of the recording was shown.
        self._anchor: tuple[float, float] | None = None
        self._told = asyncio.Event()

    async def __aenter__(self) -> Self:
        """The player; nothing is connected to."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the file go."""
        self._recording.close()

    @property
    def cluster(self) -> Cluster:
        """What the operator had declared."""
        return self._latest.cluster

    @property
    def latest(self) -> ClusterSnapshot:
        """The snapshot that is shown."""
        return self._latest

    @property
    def history(self) -> Past:
        """The last minutes before that snapshot."""
        return self._past

    @property
    def position(self) -> Position:
        """Where in the recording that is."""
        frames = self._recording.frames
        return Position(
            at=frames[self._place].at,
            first=frames[0].at,
            last=frames[-1].at,
            paused=self._paused,
            speed=self._speed,
            ended=self._place == len(frames) - 1,
            complete=self._recording.complete,
            seeking=self._wanted != self._place,
        )

    def pause(self, paused: bool | None = None) -> None:
        """Stand still or play on; without `paused` the other of the two. At the end, begin anew."""
        self._paused = not self._paused if paused is None else paused
        if not self._paused and self.position.ended:
            self._wanted = 0
        self._move()

    def step(self, frames: int) -> None:
        """Stand still that many frames later, or earlier where it is negative."""
        self._paused = True
        self._want(self._wanted + frames)

    def faster(self, steps: int = 1) -> None:
        """Play at the next speed of SPEEDS, or with -1 at the one before."""
        place = SPEEDS.index(self._speed) + steps
        self._speed = SPEEDS[max(0, min(len(SPEEDS) - 1, place))]
        self._move()

    def seek(self, at: datetime) -> None:
        """Go to the last frame that was taken at that time or before."""
        frames = self._recording.frames
        self._want(bisect_right(frames, at, key=lambda frame: frame.at) - 1)

    def skip(self, seconds: float) -> None:
        """Go that much further, or back where it is negative; by one frame at least."""
        frames = self._recording.frames
        before = self._wanted
        self.seek(frames[before].at + timedelta(seconds=seconds))
        if self._wanted == before:
            self._want(before + (1 if seconds > 0 else -1))

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        """Each snapshot as it is played or gone to, the first at once."""
        await self._go()
        yield self._latest
        loop = asyncio.get_running_loop()
        while True:
            self._told.clear()
            if self._anchor is None:
                if self._wanted != self._place:
                    await self._go()
                self._anchor = (loop.time(), self._times[self._place])
                # The screen also tells that it stands still, plays on, or how fast.
                yield self._latest
                continue
            wait = self._due(self._anchor, loop.time())
            if wait is None or wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._told.wait()
                continue
            self._wanted = self._reached(self._anchor, loop.time())
            await self._go()
            if self.position.ended:
                self._paused = True
            yield self._latest

    def all(self) -> AsyncIterator[ClusterSnapshot]:
        """Each snapshot of a tick, in order, without waiting for its time."""
        return self._all()

    async def _all(self) -> AsyncGenerator[ClusterSnapshot, None]:
        tick = None
        for place, frame in enumerate(self._recording.frames):
            if frame.tick != tick:
                tick = frame.tick
                self._latest = await asyncio.to_thread(self._snapshot, place)
                self._place = self._wanted = place
                yield self._latest

    async def journal(
        self, worker: str, lines: int = 200, follow: bool = True
    ) -> AsyncGenerator[str, None]:
        """Raises NodeError: what units logged is not recorded."""
        raise NodeError(worker.partition("/")[0], "journals are not in a recording")
        yield ""

    def shell_argv(self, node: str) -> list[str]:
        """Raises NodeError: there is no machine behind a recording."""
        raise NodeError(node, "this is a recording: there is no machine to open a shell on")

    def _want(self, place: int) -> None:
        self._wanted = max(0, min(len(self._times) - 1, place))
        self._move()

    def _move(self) -> None:
        self._anchor = None
        self._told.set()

    def _reached(self, anchor: tuple[float, float], now: float) -> int:
        """The frame that is due at `now`."""
        began, moment = anchor
        place = bisect_right(self._times, moment + (now - began) * self._speed) - 1
        return max(self._place + 1, min(len(self._times) - 1, place))

    def _due(self, anchor: tuple[float, float], now: float) -> float | None:
        """Seconds until the next frame is to be shown, None where none is."""
        following = self._place + 1
        if self._paused or following >= len(self._times):
            return None
        began, moment = anchor
        wait = (self._times[following] - moment) / self._speed - (now - began)
        if wait <= 1e-6:
            return 0.0
        return max(wait, DRAW_SECONDS) if self._speed > 1 else wait

    async def _go(self) -> None:
        while True:
            place = self._wanted
            self._latest = await asyncio.to_thread(self._read, place)
            self._place = place
            if place == self._wanted:
                return

    def _read(self, place: int) -> ClusterSnapshot:
        self._past.go(place)
        return self._snapshot(place)

    def _snapshot(self, place: int) -> ClusterSnapshot:
        frame = self._recording.frames[place]
        document, events = self._recording.state(place)
        return self._decoder.snapshot(document, frame.at, frame.tick, events)

"""A recording as a source: it plays, stands still, steps, and goes to any moment."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime, timedelta
from itertools import pairwise
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

    Raises RecordingError where the file at `path` is none. It begins to play at its first frame,
    and shows that until it knows all there are.
    """

    def __init__(self, path: Path) -> None:
        self._recording = Recording(path, later=True)
        self._times = [0.0]
        self._indexed = False
        self._asked: list[Callable[[], None]] = []
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
            ended=self._indexed and self._place == len(frames) - 1,
            complete=self._recording.complete,
            seeking=not self._indexed or self._wanted != self._place,
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
        self._when_known(lambda: self._want(self._wanted + frames))

    def faster(self, steps: int = 1) -> None:
        """Play at the next speed of SPEEDS, or with -1 at the one before."""
        place = SPEEDS.index(self._speed) + steps
        self._speed = SPEEDS[max(0, min(len(SPEEDS) - 1, place))]
        self._move()

    def seek(self, at: datetime) -> None:
        """Go to the last frame that was taken at that time or before."""
        self._when_known(lambda: self._want(self._last_at(at)))

    def part(self, share: float) -> None:
        """Go to that share of the whole, 0 to 1."""

        def go() -> None:
            first, last = self.position.first, self.position.last
            self._want(self._last_at(first + (last - first) * share))

        self._when_known(go)

    def skip(self, seconds: float) -> None:
        """Go that much further, or back where it is negative; by one frame at least."""

        def go() -> None:
            before = self._wanted
            at = self._recording.frames[before].at + timedelta(seconds=seconds)
            place = self._last_at(at)
            self._want(place if place != before else before + (1 if seconds > 0 else -1))

        self._when_known(go)

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        """Each snapshot as it is played or gone to, the first at once."""
        await self._index()
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
        await self._index()
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

    async def _index(self) -> None:
        """Know all frames and when each is due."""
        if not self._indexed:
            await asyncio.to_thread(self._recording.index)
            frames = self._recording.frames
            for before, frame in pairwise(frames):
                gap = (frame.at - before.at).total_seconds()
                self._times.append(self._times[-1] + min(gap, LONGEST_GAP_SECONDS))
            self._past = Past(self._recording, self._latest.cluster.interval_seconds)
            self._indexed = True
            for go in self._asked:
                go()

    def _when_known(self, go: Callable[[], None]) -> None:
        """Now, or once all frames are known: no key is lost while they are read."""
        if self._indexed:
            go()
        else:
            self._asked.append(go)

    def _last_at(self, at: datetime) -> int:
        """The last frame that was taken at that time or before."""
        return bisect_right(self._recording.frames, at, key=lambda frame: frame.at) - 1

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

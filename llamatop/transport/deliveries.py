"""When the event loop looks at what many connections have received."""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
import threading
from collections.abc import Callable
from typing import Final

LONGEST_SECONDS: Final = 0.1
SECONDS_A_READER: Final = 0.0016


class Deliveries:
    """Wakes the loop once for what many connections have received; the readers of one loop.

    To wake it for each line of 64 nodes costs more than the lines: what runs for a moment only
    finds nothing of its own in the processor's caches. What comes after a pause is delivered at
    once and the rest together, a little later: 0.1 s at most, less where there are few readers.
    What comes is put here by other threads, or taken from the sockets that are watched.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waiting: dict[Callable[[], None], None] = {}
        self._last = -LONGEST_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._attached = 0
        self._poll: select.epoll | None = None
        self._alert = False
        self._taking = False
        self._watched: dict[int, Callable[[], bool]] = {}
        self.readers = 0

    def join(self) -> None:
        """Count one more reader, in the running loop."""
        self.settle()
        self.readers += 1

    def leave(self) -> None:
        """Count one less."""
        self.readers -= 1

    def attach(self) -> None:
        """Make ready to `watch`, in the running loop, until as many times detached."""
        self.settle()
        self._attached += 1
        if self._poll is None and sys.platform == "linux":
            self._poll = select.epoll()
            self._heed(self._timer is None)

    def detach(self) -> None:
        """Undo one `attach`."""
        self._attached -= 1
        if not self._attached:
            self._unpoll()

    @property
    def pause_seconds(self) -> float:
        """How long after a delivery the next one may be."""
        return min(LONGEST_SECONDS, max(0, self.readers - 1) * SECONDS_A_READER)

    def watch(self, descriptor: int, take: Callable[[], bool]) -> bool:
        """Have `take` called in the loop when something has come, until it is unwatched.

        `take` tells whether there may be more. From any thread; False where that is not possible.
        """
        poll = self._poll
        if poll is None:
            return False
        self._watched[descriptor] = take
        try:
            poll.register(descriptor, select.EPOLLIN)
        except (OSError, ValueError):
            del self._watched[descriptor]
            return False
        return True

    def unwatch(self, descriptor: int) -> None:
        """Leave it to others, from any thread."""
        self._watched.pop(descriptor, None)
        poll = self._poll
        if poll is not None:
            with contextlib.suppress(OSError, ValueError):
                poll.unregister(descriptor)

    def put(self, deliver: Callable[[], None]) -> None:
        """Have `deliver` called in the loop, once however often it was put; from any thread."""
        with self._lock:
            first = not self._waiting and not self._taking
            self._waiting[deliver] = None
        if first and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._plan)
            except RuntimeError:  # the loop is closed: nobody reads any more
                self._waiting.clear()

    def settle(self) -> None:
        """Wake the running loop from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            had, watched = self._poll is not None, dict(self._watched)
            self._unpoll()
            self._loop = loop
            self._waiting.clear()
            self._timer = None
            self._taking = False
            if had:
                # the connections outlive a loop that ended without closing them
                self._poll = select.epoll()
                for descriptor, take in watched.items():
                    self.watch(descriptor, take)
                self._heed(True)

    def _unpoll(self) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(poll.fileno())
            self._alert = False
            poll.close()

    def _heed(self, alert: bool) -> None:
        """Have the loop woken by the sockets that are watched, or not."""
        if alert is self._alert or self._poll is None or self._loop is None:
            return
        self._alert = alert
        if alert:
            self._loop.add_reader(self._poll.fileno(), self._plan)
        else:
            self._loop.remove_reader(self._poll.fileno())

    def _plan(self) -> None:
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._last + self.pause_seconds
        if due <= loop.time():
            self._deliver()
        else:
            self._heed(False)
            self._timer = loop.call_at(due, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        with self._lock:
            self._taking = True
        try:
            came, more = self._take()
        finally:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                self._taking = False
        for deliver in waiting:
            loop.call_soon(deliver)
        self._last = loop.time()
        pause = self.pause_seconds
        if came and (more or pause):
            # while something comes all the time the sockets need not wake the loop
            self._heed(False)
            self._timer = loop.call_at(self._last + (0 if more else pause), self._deliver)
        else:
            self._heed(True)

    def _take(self) -> tuple[bool, bool]:
        """Take from the sockets; whether something had come, and whether there may be more."""
        came = more = False
        if self._poll is not None:
            for descriptor, _ in self._poll.poll(0):
                came = True
                take = self._watched.get(descriptor)
                if take is not None and take():
                    more = True
        return came, more

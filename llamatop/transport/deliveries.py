"""When the event loop is woken for what other threads have received."""

from __future__ import annotations

import asyncio
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
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waiting: dict[Callable[[], None], None] = {}
        self._last = -LONGEST_SECONDS
        self.readers = 0

    def join(self) -> None:
        """Count one more reader, in the running loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._waiting.clear()
        self.readers += 1

    def leave(self) -> None:
        """Count one less."""
        self.readers -= 1

    @property
    def pause_seconds(self) -> float:
        """How long after a delivery the next one may be."""
        return min(LONGEST_SECONDS, max(0, self.readers - 1) * SECONDS_A_READER)

    def put(self, deliver: Callable[[], None]) -> None:
        """Have `deliver` called in the loop, once however often it was put; from any thread."""
        with self._lock:
            first = not self._waiting
            self._waiting[deliver] = None
        if first and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._plan)
            except RuntimeError:  # the loop is closed: nobody reads any more
                self._waiting.clear()

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._last + self.pause_seconds
        if due <= loop.time():
            self._deliver()
        else:
            loop.call_at(due, self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        for deliver in waiting:
            loop.call_soon(deliver)

"""Whose turn it is to be logged in to, of many machines."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

AT_ONCE: Final = 4
# Several times what a login takes of the processor: who holds a turn for longer is waiting itself.
PATIENCE_SECONDS: Final = 0.25
# What the first figures take after a login, while nobody else needs much of the processor.
LEAD_SECONDS: Final = 0.25


class Turns:
    """Lets a few threads do what takes the processor, while any number wait for the network.

    Of 64 machines the first are there sooner when they are logged in to one after another than
    when all share the processor: who is further along goes first, and else who asked first. One at
    a time goes until `lead_seconds` after the first login, then `at_once`. Whoever holds a turn for
    longer than `patience_seconds` waits for somebody else, and is counted no more.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE,
        patience_seconds: float = PATIENCE_SECONDS,
        lead_seconds: float = LEAD_SECONDS,
    ) -> None:
        self._at_once = at_once
        self._patience = patience_seconds
        self._lead = lead_seconds
        self._alone_until = float("inf") if lead_seconds else 0.0
        self._lock = threading.Lock()
        self._asked = 0
        self._waiting: list[tuple[int, int, threading.Event]] = []
        self._held: dict[threading.Event, float] = {}

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        with self._lock:
            return len(self._waiting)

    @contextmanager
    def turn(self, further: int = 0) -> Iterator[None]:
        """Wait for a turn, the shorter the larger `further` is, 0 before the login; blocks."""
        mine = threading.Event()
        with self._lock:
            self._asked += 1
            heapq.heappush(self._waiting, (-further, self._asked, mine))
            seconds = self._call()
        while not mine.wait(seconds):
            with self._lock:
                seconds = self._call()
        try:
            yield
        finally:
            with self._lock:
                del self._held[mine]
                if further:
                    self._alone_until = min(self._alone_until, time.monotonic() + self._lead)
                self._call()

    def _call(self) -> float:
        """Call whoever is next where there is a turn; how long until there is one at the latest."""
        now = time.monotonic()
        counted = [began for began in self._held.values() if now - began < self._patience]
        if len(counted) < len(self._held):
            # One that hangs leads nobody.
            self._alone_until = min(self._alone_until, now)
        at_once = self._at_once if now >= self._alone_until else 1
        while self._waiting and len(counted) < at_once:
            _, _, called = heapq.heappop(self._waiting)
            self._held[called] = now
            counted.append(now)
            called.set()
        free = min(counted, default=now) + self._patience
        if at_once < self._at_once:
            free = min(free, self._alone_until, now + self._lead)
        return free - now

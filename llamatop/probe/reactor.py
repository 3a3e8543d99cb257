"""Readiness of file descriptors and moments in time, on one thread."""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Dict, List, Tuple

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Timer:
    """A call in the future; `cancel` makes it a no-op."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Reactor:
    """An epoll loop; callbacks get the event mask and must never block."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._calls: Dict[int, Callable[[int], None]] = {}
        self._timers: List[Tuple[float, int, Timer]] = []
        self._count = 0

    def watch(self, descriptor: int, mask: int, call: Callable[[int], None]) -> None:
        """Call on readiness, in place of what was watched of it before; raises OSError."""
        if descriptor in self._calls:
            self._poll.modify(descriptor, mask)
        else:
            self._poll.register(descriptor, mask)
        self._calls[descriptor] = call

    def forget(self, descriptor: int) -> None:
        """Stop watching; must come before the descriptor is closed."""
        if self._calls.pop(descriptor, None) is not None:
            try:
                self._poll.unregister(descriptor)
            except OSError:
                pass

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Call at a moment of the monotonic clock, or as soon after it as the loop turns."""
        timer = Timer(call)
        self._count += 1
        heapq.heappush(self._timers, (moment, self._count, timer))
        return timer

    def turn(self, until: float) -> None:
        """Wait for the first event, but not past `until`, and make the calls that are due."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if self._timers:
            until = min(until, self._timers[0][0])
        wait = max(0.0, until - time.monotonic())
        for descriptor, mask in self._poll.poll(wait + 0.0005 if wait else 0):
            call = self._calls.get(descriptor)
            if call is not None:
                call(mask)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()

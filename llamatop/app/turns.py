"""Whose turn it is: a key is painted before the latest figures are drawn any further."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

# So long the figures wait for a key, and for however many keys.
KEY_SECONDS, LONGEST_SECONDS = 0.1, 0.25


class Turns:
    """Does work in pieces and stands back between two of them while a key is not yet answered.

    `later` has a function called some seconds on. `came` may be called by any one thread, all else
    by the loop's.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = 0
        self._answered = 0
        self._key_at: float | None = None
        self._later = later
        self._clock = clock
        self._work: Iterator[None] | None = None
        self._waits_since: float | None = None
        self._free = asyncio.Event()

    def came(self) -> None:
        """A key was pressed."""
        self._key_at = self._clock()
        self.keys += 1

    def answered(self, keys: int) -> None:
        """What the first `keys` keys changed has been painted."""
        self._answered = max(self._answered, keys)
        if not self.waiting:
            self._free.set()
            self._go_on()

    @property
    def waiting(self) -> bool:
        """Whether a key has just come and is not yet answered."""
        return self._answered < self.keys and not self.quiet(KEY_SECONDS)

    async def clear(self) -> None:
        """Wait until no key waits, at most `KEY_SECONDS`."""
        if self.waiting:
            self._free.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEY_SECONDS):
                    await self._free.wait()

    def quiet(self, seconds: float) -> bool:
        """Whether no key has come for so long."""
        return self._key_at is None or self._clock() - self._key_at >= seconds

    def do(self, work: Iterator[None]) -> None:
        """Do this, and no more of what was being done: each piece ends where it yields."""
        self._work = work
        self._go_on()

    def _go_on(self) -> None:
        while self._work is not None:
            if self.waiting and self._may_wait():
                return
            work = self._work
            try:
                next(work)
            except StopIteration:
                if self._work is work:
                    self._work = self._waits_since = None

    def _may_wait(self) -> bool:
        now = self._clock()
        if self._waits_since is None:
            self._waits_since = now
        if now - self._waits_since >= LONGEST_SECONDS:
            return False
        self._later(KEY_SECONDS, self._go_on)
        return True

"""How long a reader waits for what comes again and again."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """As `asyncio.timeout` around each of many waits, with one timer for all of them.

    Each wait is told with `begin` and `end`; one that takes longer than `seconds` ends the block
    with TimeoutError.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: float | None = None
        self._block = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)

    async def __aenter__(self) -> Self:
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._block.__aexit__(kind, error, trace)

    @property
    def expired(self) -> bool:
        """Whether it was this that ended the block."""
        return self._block.expired()

    @property
    def seconds(self) -> float:
        """How long one wait may take; from the next `begin` on where it is changed."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        if seconds != self._seconds:
            self._seconds = seconds
            self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    def begin(self) -> None:
        """Wait from now on."""
        self._begun = self._loop.time()

    def end(self) -> None:
        """It came: whatever is done with it may take as long as it does."""
        self._begun = None

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._begun is None else self._begun) + self._seconds
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._block.reschedule(now)

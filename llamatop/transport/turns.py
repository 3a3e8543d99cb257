"""How many machines are being connected to at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 8
PATIENCE_SECONDS: Final = 0.25


class Turns:
    """A few connections are begun at once, in the order in which they are asked for.

    Logging in is work for this side, which is done sooner one after another; waiting for an
    answer is none: who takes longer than `patience_seconds` goes on beside the next.
    """

    def __init__(self, at_once: int = AT_ONCE, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._patience = patience_seconds

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the end or for as long as there is patience."""
        await self._free.acquire()
        held = True

        def pass_on() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._patience, pass_on)
        try:
            yield
        finally:
            timer.cancel()
            pass_on()

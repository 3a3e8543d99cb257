"""When Python looks for cycles among its objects: while nobody is at the keys."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# It stands still for some 40 ms a time at a fleet's figures, which hold no cycles; what the
# screen leaves behind is a hundred kilobytes a minute.
EVERY_SECONDS = 30.0
LONGEST_SECONDS = 300.0
QUIET_SECONDS = 2.0


@asynccontextmanager
async def seldom(quiet: Callable[[float], bool]) -> AsyncIterator[None]:
    """Look for them every half minute, put off while `quiet` says that keys came of late."""
    gc.disable()
    # The modules stay, and need not be looked through.
    gc.freeze()
    looking = asyncio.create_task(_look(quiet))
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        gc.unfreeze()
        gc.enable()


async def _look(quiet: Callable[[float], bool]) -> None:
    loop = asyncio.get_running_loop()
    looked = loop.time()
    while True:
        await asyncio.sleep(QUIET_SECONDS)
        passed = loop.time() - looked
        if passed >= LONGEST_SECONDS or (passed >= EVERY_SECONDS and quiet(QUIET_SECONDS)):
            gc.collect()
            looked = loop.time()

"""--auto-drain beside what a command does anyhow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamatop.operate.live import LiveSource
    from llamatop.operate.operator import Operator


@asynccontextmanager
async def draining(
    source: LiveSource, operator: Operator | None, busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """Have it run meanwhile; at the end its plan is rolled back. Nothing without an operator."""
    if operator is None:
        yield
        return
    from llamatop.operate.autodrain import AutoDrain

    task = asyncio.create_task(AutoDrain(source, operator, busy=busy).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

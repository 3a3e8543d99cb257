"""What goes on beside a command that runs for long: --auto-drain, and alerts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamatop.model.declared import Cluster
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

    async with _beside(AutoDrain(source, operator, busy=busy).run()):
        yield


@asynccontextmanager
async def alerting(
    source: LiveSource, cluster: Cluster, bell: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Have findings told as they come and go, where the cluster file has [alerts]."""
    if cluster.alerts is None:
        yield
        return
    from llamatop.operate.alerting import Alerting

    async with _beside(Alerting(source, cluster.alerts, bell).run()):
        yield


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

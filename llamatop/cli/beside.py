"""What goes on beside a command that runs for long: --auto-drain, and alerts."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamatop.model.declared import Cluster
    from llamatop.operate.live import Fleet, LiveSource
    from llamatop.operate.operator import Operator


@asynccontextmanager
async def draining(
    source: LiveSource,
    operator: Operator | None,
    machines: Fleet,
    busy: Callable[[], bool] = lambda: False,
) -> AsyncIterator[None]:
    """Have it run meanwhile; at the end its plan is rolled back. Nothing without an operator."""
    if operator is None:
        yield
        return
    from llamatop.operate.autodrain import AutoDrain

    work = AutoDrain(source, operator, machines, busy=busy)
    async with _beside(source, "auto-drain has", work.run()):
        yield


@asynccontextmanager
async def alerting(
    source: LiveSource, cluster: Cluster, bell: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Have findings told as they come and go, where the cluster file has [alerts]."""
    if cluster.alerts is None:
        yield
        return
    # In a thread, so that keys are answered meanwhile.
    await asyncio.to_thread(importlib.import_module, "llamatop.operate.alerting")
    from llamatop.operate.alerting import Alerting

    async with _beside(source, "alerts have", Alerting(source, cluster.alerts, bell).run()):
        yield


@asynccontextmanager
async def _beside(
    source: LiveSource, what: str, work: Coroutine[None, None, None]
) -> AsyncIterator[None]:
    task = asyncio.create_task(_told(source, what, work))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _told(source: LiveSource, what: str, work: Coroutine[None, None, None]) -> None:
    """Do the work; that it ends by a fault is an event, and ends nothing else."""
    from llamatop.model.cluster import Event

    try:
        await work
    except Exception as error:  # noqa: BLE001 - nobody waits for it
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        text = f"{what} ended by a fault of llamatop itself ({type(cause).__name__}: {cause})"
        source.announce(Event(datetime.now(UTC), "error", text))

"""`--record FILE`: what a command reads, kept while it reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llamatop.cli import streams
from llamatop.model.cluster import Event

if TYPE_CHECKING:
    from llamatop.collect.collector import Collector
    from llamatop.model.cluster import ClusterSnapshot
    from llamatop.record.writer import Recorder


@contextmanager
def recorder(path: Path | None) -> Iterator[Recorder | None]:
    """A recorder into a new file, None without a path; why it ended early is said at the end.

    Where nothing was kept no file is left. Raises UsageError where the file exists or cannot be
    made.
    """
    if path is None:
        yield None
        return
    from llamatop.record.writer import Recorder

    record = Recorder(path)
    try:
        yield record
    finally:
        record.abandon()
        if record.fault is not None:
            streams.complain(ended(record.fault))


def ended(error: Exception) -> str:
    """Why nothing more is recorded, as one sentence."""
    if not isinstance(error, OSError):
        # Its text may hold what a recording must not.
        return f"the recording ended: a fault of llamatop ({type(error).__name__})"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"the recording ended: {reason}"


@asynccontextmanager
async def kept(collector: Collector, record: Recorder) -> AsyncIterator[None]:
    """Each snapshot of the collector goes into the recording, in a thread, until the end.

    A fault ends the recording alone, and is an event of the cluster.
    """
    task = asyncio.create_task(_keep(collector, record))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if record.fault is None:
            # What goes wrong here is kept as the recorder's fault.
            with contextlib.suppress(Exception):
                await asyncio.to_thread(_finish, record, collector.latest)


async def _keep(collector: Collector, record: Recorder) -> None:
    async with aclosing(collector.snapshots()) as snapshots:
        async for snapshot in snapshots:
            # While one is written the next is waited for, and only the newest is taken.
            writing = asyncio.create_task(asyncio.to_thread(record.take, snapshot))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])
                raise
            except Exception as error:  # noqa: BLE001 - a recording must not end the session
                collector.announce(Event(datetime.now(UTC), "warning", ended(error)))
                return


def _finish(record: Recorder, latest: ClusterSnapshot) -> None:
    record.take(latest)
    record.close()

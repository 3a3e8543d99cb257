"""Reading a cluster from the command line: opened, sampled once, a worker looked up."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llamatop import config
from llamatop.cli import seen
from llamatop.collect.collector import Collector
from llamatop.collect.link import Clear
from llamatop.collect.names import select
from llamatop.model.cluster import ClusterSnapshot, Event, WorkerView
from llamatop.model.declared import Cluster
from llamatop.transport.machines import Machines

if TYPE_CHECKING:
    from llamatop.record.writer import Recorder

# Objects made and not yet freed before Python looks for cycles among them. With its own 700 it
# looks forty times a second at a large cluster's figures, which are renewed and hold no cycle.
CYCLES_AFTER = (50_000, 20, 50)
PATIENCE_SECONDS = 3.0
LONGEST_SECONDS = 20.0
HEADERS_SECONDS = 10.0
_KEEPING_SECONDS = 5.0


class _Telling(Collector):
    tell: Callable[[Event], None] | None = None

    def announce(self, event: Event) -> None:
        super().announce(event)
        if self.tell is not None:
            self.tell(event)


@asynccontextmanager
async def opened(
    cluster: Cluster,
    tell: Callable[[Event], None] | None = None,
    record: Recorder | None = None,
    clear: Clear | None = None,
    machines: Machines | None = None,
) -> AsyncIterator[tuple[Collector, Machines]]:
    """A running collector and the machines it reads, closed at the end with every connection.

    `tell` hears at once of every event that is announced here, not seen on a node. What is seen is
    kept in `record`, whose fault ends the recording and nothing else. `clear`: see `Collector`.
    `machines` may have begun to connect already.
    """
    gc.set_threshold(*CYCLES_AFTER)
    machines = machines or Machines(cluster)
    try:
        secrets = config.secrets(cluster, os.environ)
        async with _Telling(cluster, machines, secrets=secrets, clear=clear) as collector:
            collector.tell = tell
            for (node, _), problem in config.missing_secrets(cluster, os.environ).items():
                collector.announce(Event(datetime.now(UTC), "warning", str(problem), node))
            keeping = asyncio.create_task(_keep_names(collector))
            try:
                async with _recorded(collector, record, secrets):
                    yield collector, machines
            finally:
                keeping.cancel()
                seen.remember(collector.latest)
    finally:
        await machines.close()


async def _keep_names(collector: Collector) -> None:
    """Have the workers' names completed while the dashboard is still open."""
    while True:
        await asyncio.sleep(_KEEPING_SECONDS)
        await asyncio.to_thread(seen.remember, collector.latest)


@asynccontextmanager
async def _recorded(
    collector: Collector, record: Recorder | None, secrets: Mapping[tuple[str, str], str]
) -> AsyncIterator[None]:
    """Keep what is seen in `record`, without the secrets; nothing without one."""
    if record is None:
        yield
        return
    from llamatop.cli.recording import kept

    record.hide(secrets.values())
    async with kept(collector, record):
        yield


async def complete_sample(cluster: Cluster, record: Recorder | None = None) -> ClusterSnapshot:
    """One snapshot with rates, when every node has been read twice or cannot be."""
    async with opened(cluster, record=record) as (collector, _):
        return await settled(collector)


def unread(snapshot: ClusterSnapshot) -> list[WorkerView]:
    """The workers whose model's header is still being read on their node."""
    reading = {
        (node.name, told)
        for node in snapshot.nodes
        if node.reachable
        for told, file in node.snapshot.models.items()
        if file.reading
    }
    return [one for one in snapshot.workers if (one.node, one.sample.launch.model) in reading]


async def settled(collector: Collector, *, headers: bool = False) -> ClusterSnapshot:
    """The first snapshot in which every node has been read whole and twice, or cannot be.

    A node that neither answers nor refuses delays the others by a few seconds at most, and that is
    its fault then; one that answers slowly is given longer. With `headers` those of the models have
    been read too, or not within 10 s (`unread`).
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await _until(collector, lambda snapshot: False, [node.name for node in collector.cluster.nodes])
    silent = f"nothing has come from it within {loop.time() - begun:.0f} s; look at it again"
    if headers and unread(collector.latest):
        with suppress(TimeoutError):
            async with asyncio.timeout(HEADERS_SECONDS), aclosing(collector.snapshots()) as coming:
                async for snapshot in coming:
                    if not unread(snapshot):
                        break
    snapshot = collector.latest
    nodes = (
        node if node.reachable or node.fault else replace(node, fault=silent)
        for node in snapshot.nodes
    )
    return replace(snapshot, nodes=tuple(nodes))


async def _until(
    collector: Collector, found: Callable[[ClusterSnapshot], bool], nodes: Sequence[str]
) -> None:
    """Wait for `found`, or until nothing more is to be expected of the nodes."""
    loop = asyncio.get_running_loop()
    patience = PATIENCE_SECONDS + 2 * collector.cluster.interval_seconds
    first_heard: float | None = None
    try:
        async with asyncio.timeout(LONGEST_SECONDS), aclosing(collector.snapshots()) as snapshots:
            async for snapshot in snapshots:
                # While nobody is heard, it may be this side that is slow.
                if first_heard is None and any(map(collector.heard, nodes)):
                    first_heard = loop.time()
                late = first_heard is not None and loop.time() - first_heard > patience
                if found(snapshot) or all(
                    collector.settled(node) or (late and not collector.heard(node))
                    for node in nodes
                ):
                    return
    except TimeoutError:
        pass


async def ticks(collector: Collector) -> AsyncGenerator[ClusterSnapshot, None]:
    """One snapshot a tick, the first when it is complete."""
    first = await settled(collector)
    yield first
    last = first.tick
    async for snapshot in collector.snapshots():
        if snapshot.tick != last:
            last = snapshot.tick
            yield snapshot


async def named_worker(collector: Collector, name: str) -> str:
    """Wait until a worker called so is seen, or its node has been read or cannot be."""
    node = name.partition("/")[0]
    nodes = [one.name for one in collector.cluster.nodes if one.name == node]
    await _until(collector, lambda snapshot: bool(select(name, snapshot.workers)), nodes)
    return name

"""The live cluster: every node's link joined into one snapshot a tick."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from llamatop.collect import resolve
from llamatop.collect.compose import Composer, Link
from llamatop.collect.configuration import configuration
from llamatop.collect.history import Ring
from llamatop.collect.journal import journal_lines, unit_of
from llamatop.collect.link import Clear, NodeLink
from llamatop.collect.order import first_to_last
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.model.declared import Cluster, Node
from llamatop.model.observed import NodeSnapshot
from llamatop.model.plan import Plan
from llamatop.probe import bundle
from llamatop.transport.base import Machine

SOON_SECONDS = 0.05
PAUSE_SECONDS = 0.2
MOST_DOCUMENTS = 6
# Of a large cluster the first node has the processor to itself until it is shown, or so long.
FEW = 8
HEAD_START_SECONDS = 0.25
SHOWING_SECONDS = 0.08
_SSH = "llamatop.transport.ssh"


class MachineSource(Protocol):
    """Where machines come from: `transport.machines.Machines`, or a test's own."""

    def machine(self, node_name: str) -> Machine:
        """The machine behind a node; raises NodeError where it has no ssh."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Collector:
    """Implements `Source`; connects on `async with` and lets everything go at its end.

    A tick is aligned across nodes and waits for none; what matters (a unit's state, a node lost)
    brings a snapshot at once. `secrets` are API keys by (node, unit). Before each piece of work
    `clear` is awaited, for what goes first. The machines stay the caller's to close.
    """

    def __init__(
        self,
        cluster: Cluster,
        machines: MachineSource,
        *,
        secrets: Mapping[tuple[str, str], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        clear: Clear | None = None,
    ) -> None:
        self._cluster = cluster
        self._machines = machines
        self._secrets = dict(secrets or {})
        self._clock = clock
        self._now = now
        self._clear = clear
        self._links: dict[str, Link] = {}
        self._composer = Composer(cluster, now)
        self._history = Ring(cluster.interval_seconds)
        self._latest = self._composer.nothing(clock())
        # The first figures and the first rates are shown as they come.
        self._unsettled = {node.name for node in cluster.nodes}
        self._readers: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: asyncio.TimerHandle | None = None
        self._composed_at: float | None = None
        self._failure: BaseException | None = None
        self._started = asyncio.Event()
        self._first_told = asyncio.Event()

    @property
    def cluster(self) -> Cluster:
        """What the operator declared."""
        return self._cluster

    @property
    def latest(self) -> ClusterSnapshot:
        """The newest snapshot; before the first tick one in which nothing is known yet."""
        return self._latest

    @property
    def history(self) -> Ring:
        """The ring buffers behind the sparklines."""
        return self._history

    async def __aenter__(self) -> Self:
        """Begin to connect; returns at once."""
        self._spawn(self._run())
        self._spawn(self._tick())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every link; the probes see the end of their input and exit."""
        if self._soon is not None:
            self._soon.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        """Each new snapshot, one a tick or sooner; a slow reader gets only the newest."""
        news = asyncio.Event()
        self._readers.add(news)
        try:
            while True:
                await news.wait()
                news.clear()
                if self._failure is not None:
                    raise self._failure
                yield self._latest
        finally:
            self._readers.discard(news)

    def settled(self, node: str) -> bool:
        """Whether `latest` shows the node read whole and twice, or why it cannot be.

        `status` waits for this.
        """
        return node not in self._unsettled

    def _settles(self, node: str) -> bool:
        link = self._links.get(node)
        if link is None:
            return False
        if link.attempts_failed:
            return True
        if link.documents < 2 or link.pending:
            return False
        return link.documents >= MOST_DOCUMENTS or self._composer.states[node].rated

    def heard(self, node: str) -> bool:
        """Whether the node has said anything yet."""
        return self._composer.states[node].snapshot.received_at is not None

    def announce(self, event: Event) -> None:
        """Add an event to the cluster's and show it at once."""
        if self._composer.events.add(event):
            self._compose_soon()

    def expect(self, plan: Plan | None) -> None:
        """Until told otherwise, what this plan brings about is no alarm among the events."""
        self._composer.events.plan = plan

    def hurry(self, node: str | None = None) -> None:
        """Try again at once to reach a node, or every one that is not reached."""
        for name, link in self._links.items():
            if node is None or name == node:
                link.hurry()

    async def refresh(self, node: str) -> NodeSnapshot:
        """A snapshot of the node read after this call, which `latest` then holds as well.

        What did not answer since has its age in `ages`. Raises Unreachable where none comes within
        15 s, KeyError without such a node.
        """
        self._cluster.node(node)
        await self._started.wait()
        snapshot = await self._links[node].refresh()
        self._compose()
        return snapshot

    async def journal(
        self, worker: str, lines: int = 200, follow: bool = True
    ) -> AsyncGenerator[str, None]:
        """The unit's journal, one entry a line; same as `journalctl -u UNIT -n LINES -f`.

        `worker` is `node/short` or `node/UNIT`. Raises UsageError where there is no such worker,
        NodeError where the node cannot be reached or the journal may not be read.
        """
        node, unit = unit_of(self._latest, worker)
        machine = self._machines.machine(node)
        async with aclosing(journal_lines(machine, unit, lines, follow)) as entries:
            async for line in entries:
                yield line

    def shell_argv(self, node: str) -> list[str]:
        """The local command for a shell on the node; raises NodeError where it has no ssh."""
        return self._machines.machine(node).shell_argv()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            for news in self._readers:
                news.set()

    async def _run(self) -> None:
        remote = any(node.ssh not in (None, "local") for node in self._cluster.nodes)
        if remote and _SSH not in sys.modules:
            # paramiko takes a tenth of a second to import: not on the screen's time. Neither is
            # the probe made ready to be sent.
            await asyncio.gather(
                asyncio.to_thread(importlib.import_module, _SSH), asyncio.to_thread(bundle.payload)
            )
        self._links.update((node.name, self._link(node)) for node in self._cluster.nodes)
        self._started.set()
        names = first_to_last(self._cluster)
        for name in names[:1]:
            self._spawn(self._links[name].run())
        if len(names) > FEW:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAD_START_SECONDS):
                    await self._first_told.wait()
                    await asyncio.sleep(SHOWING_SECONDS)
        for name in names[1:]:
            self._spawn(self._links[name].run())
        async for name, known in resolve.addresses(self._cluster):
            self._composer.called(name, known)

    def _link(self, node: Node) -> Link:
        if node.ssh is None:
            # httpx is for these nodes alone.
            from llamatop.collect.http_link import HttpLink

            return HttpLink(
                node,
                self._changed,
                keys={
                    unit: key for (name, unit), key in self._secrets.items() if name == node.name
                },
                interval_seconds=self._cluster.interval_seconds,
                clock=self._clock,
            )
        return NodeLink(
            node,
            self._machines.machine(node.name),
            configuration(self._cluster, node, self._secrets, self._composer.searching),
            self._changed,
            interval_seconds=self._cluster.interval_seconds,
            clock=self._clock,
            clear=self._clear,
        )

    async def _tick(self) -> None:
        interval = self._cluster.interval_seconds
        due = self._clock() + interval
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            # Ticks that were missed (a suspended laptop) are not caught up.
            due = max(due + interval, self._clock())
            if self._clear is not None:
                await self._clear()
            self._compose(tick=True)

    def _changed(self, snapshot: NodeSnapshot) -> None:
        self._first_told.set()
        early = snapshot.name in self._unsettled
        if self._composer.take(snapshot) or early:
            self._compose_soon()

    def _compose_soon(self) -> None:
        """At once where all is quiet; what comes close together is shown together.

        The first of all waits for nothing.
        """
        if self._soon is None:
            loop = asyncio.get_running_loop()
            due = loop.time()
            if self._composed_at is not None:
                due = max(due + SOON_SECONDS, self._composed_at + PAUSE_SECONDS)
            self._soon = loop.call_at(due, self._compose)

    def _compose(self, tick: bool = False) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._composed_at = asyncio.get_running_loop().time()
        self._unsettled = {node for node in self._unsettled if not self._settles(node)}
        self._latest = self._composer.compose(
            self._links, tick=tick, whole=not self._unsettled, clock=self._clock()
        )
        if tick:
            self._history.record(self._latest)
        for news in self._readers:
            news.set()

"""One node's connection to its probe: opened, kept alive, opened again, and read as snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from llamatop.collect.backoff import Backoff
from llamatop.collect.node_lines import NodeLines
from llamatop.collect.patience import Patience
from llamatop.errors import LlamatopError, NoAnswer, NodeError, ProtocolFault, Unreachable
from llamatop.model.declared import Node
from llamatop.model.observed import BalancerSample, NodeSnapshot
from llamatop.model.text import plain
from llamatop.probe import bundle
from llamatop.transport.base import Channel, Machine

# What TCP sends again 3 s after it was lost still comes within the 5 s that the probe waits.
BEAT_SECONDS = 1.5
FIRST_LINE_SECONDS = 15.0
SILENCE_SECONDS = 8.0
CHATTER_LIMIT_BYTES = 64 * 1024

Clock = Callable[[], float]
# Awaited before a line is made sense of, where there is something that goes first.
Clear = Callable[[], Awaitable[None]]


class NodeLink:
    """Keeps one node's latest snapshot; `changed` is called after each change of it.

    After a fault the last figures stay, with `reachable` false and the cause in `faults["node"]`.
    """

    def __init__(
        self,
        node: Node,
        machine: Machine,
        configuration: bytes,
        changed: Callable[[NodeSnapshot], None],
        *,
        interval_seconds: float = 1.0,
        clock: Clock = time.monotonic,
        clear: Clear | None = None,
    ) -> None:
        self.node = node
        self.snapshot = NodeSnapshot(name=node.name)
        self.documents = 0
        self.attempts_failed = 0
        # Parts that the probe still waits for: that nothing is there is not yet known.
        self.pending: tuple[str, ...] = ()
        self._machine = machine
        self._configuration = configuration
        self._changed = changed
        self._interval = interval_seconds
        self._clock = clock
        self._clear = clear
        self._backoff = Backoff()
        self._hurry = asyncio.Event()
        self._members: tuple[str, ...] = ()
        self._asked: tuple[str, ...] = ()
        self._channel: Channel | None = None
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._requests = 0
        self._answered = 0
        # What the balancer's probe read through each member address, with our time of receipt.
        self.identities: dict[str, tuple[str, float]] = {}
        self._identity_reads: dict[str, object] = {}

    async def run(self) -> None:
        """Connect, read, wait, connect again; until cancelled."""
        while True:
            before = self.documents
            try:
                await self._session()
                fault: LlamatopError = Unreachable(self.node.name, "the probe ended")
            except LlamatopError as error:
                fault = error
            except (OSError, RecursionError, ValueError) as error:
                fault = ProtocolFault(self.node.name, f"{type(error).__name__}: {error}")
            if self.documents > before + 2:
                self._backoff.reset()
            self.attempts_failed += 1
            delay = self._backoff.next_seconds()
            self._hurry.clear()
            self._tell(self._failed(fault, self._clock() + delay))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay)
                self._tell(replace(self.snapshot, next_try_at=None))

    def hurry(self) -> None:
        """Try again now if a retry is being waited for."""
        self._backoff.reset()
        self._hurry.set()

    def ask_members(self, addresses: tuple[str, ...]) -> None:
        """Have the node ask who answers behind these member addresses, from its next beat on."""
        self._members = addresses

    async def refresh(self, timeout_seconds: float = 15.0) -> NodeSnapshot:
        """A snapshot of which all was read after this call, or has its age in `ages`.

        Raises Unreachable where none comes in time.
        """
        self.hurry()
        self._requests += 1
        wanted = self._requests
        failed = self.attempts_failed
        asked: Channel | None = None

        def moved() -> bool:
            again = self._channel is not None and self._channel is not asked
            return self._answered >= wanted or self.attempts_failed > failed or again

        try:
            async with asyncio.timeout(timeout_seconds):
                while self._answered < wanted:
                    channel = self._channel
                    if channel is not None and channel is not asked:
                        asked = channel
                        await self._write(channel, bundle.now(wanted))
                        continue
                    if self.attempts_failed > failed:
                        raise Unreachable(self.node.name, self._why_not())
                    while not moved():
                        self._news.clear()
                        await self._news.wait()
        except TimeoutError:
            raise Unreachable(
                self.node.name, f"no figures came within {timeout_seconds:g} s"
            ) from None
        return self.snapshot

    def _why_not(self) -> str:
        return self.snapshot.faults.get("node", "it cannot be reached")

    async def _session(self) -> None:
        channel = await self._machine.open(bundle.command())
        beats: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(Unreachable):
                # A program that ended already tells why in its status.
                await self._write(channel, bundle.payload() + self._configuration)
                # Only now: what is written earlier would stand in the middle of the program.
                self._channel = channel
                beats = asyncio.create_task(self._beat(channel))
            await self._read(channel)
        finally:
            self._channel = None
            if beats is not None:
                beats.cancel()
            await channel.close()

    async def _write(self, channel: Channel, data: bytes) -> None:
        """Write it in one piece: a channel takes long lines bit by bit."""
        async with self._writing:
            await channel.write(data)

    async def _beat(self, channel: Channel) -> None:
        number = 0
        self._asked = ()
        with contextlib.suppress(Unreachable):
            while True:
                await asyncio.sleep(BEAT_SECONDS - asyncio.get_running_loop().time() % BEAT_SECONDS)
                number += 1
                asked, self._asked = self._asked, self._members
                line = bundle.beat(number)
                await self._write(
                    channel, line if asked == self._asked else bundle.members(self._asked) + line
                )

    async def _read(self, channel: Channel) -> None:
        patience = Patience(FIRST_LINE_SECONDS)
        heard = self.documents
        try:
            async with patience:
                await self._lines(channel, patience)
        except TimeoutError:
            if not patience.expired:
                raise
            # Before the first line it is what runs there that says nothing: sshd did answer.
            kind = NoAnswer if self.documents > heard else Unreachable
            raise kind(
                self.node.name, f"nothing was heard of it for {patience.seconds:g} s"
            ) from None

    async def _lines(self, channel: Channel, patience: Patience) -> None:
        lines = NodeLines(self.node.name)
        chatter = 0
        heard = False
        while True:
            patience.begin()
            line = await channel.readline()
            patience.end()
            if not line:
                raise await self._why_ended(channel, chatter)
            if self._clear is not None:
                await self._clear()
            snapshot = lines.read(line, self._clock())
            if snapshot is None:
                chatter += len(line)
                if heard or chatter > CHATTER_LIMIT_BYTES:
                    raise ProtocolFault(
                        self.node.name,
                        f"the probe's output is not JSON: {_excerpt(line)}",
                        "make the login shell's start-up files print nothing",
                    )
                continue
            document = lines.document
            if not heard and isinstance(document.get("fault"), str):
                raise NodeError(self.node.name, document["fault"])
            if not heard:
                heard = True
                patience.seconds = max(SILENCE_SECONDS, 4 * self._interval)
            waiting = document.get("pending")
            self.pending = tuple(waiting) if isinstance(waiting, list) else ()
            if snapshot.tunnels != self.snapshot.tunnels:
                # What was read through a tunnel that has changed since tells nothing any more.
                self.identities.clear()
            self._identify(document.get("members"))
            answered = document.get("answered")
            self._answered = answered if isinstance(answered, int) else 0
            self.documents += 1
            self.attempts_failed = 0
            self._tell(bridged(snapshot, self.snapshot, self.pending))

    def _identify(self, read: object) -> None:
        for address, entry in read.items() if isinstance(read, dict) else ():
            identity = entry.get("identity") if isinstance(entry, dict) else None
            if isinstance(identity, str) and self._identity_reads.get(address) is not entry:
                self._identity_reads[address] = entry
                self.identities[address] = (identity, self._clock())

    async def _why_ended(self, channel: Channel, chatter: int) -> NodeError:
        try:
            async with asyncio.timeout(5.0):
                done = await channel.wait()
        except TimeoutError:
            return Unreachable(self.node.name, "the connection was closed")
        errors = done.stderr.decode("utf-8", "replace").strip()
        last = _excerpt(errors.splitlines()[-1].encode()) if errors else "no message"
        if done.status == 127:
            return NodeError(
                self.node.name,
                "python3 is missing there, which the probe needs",
                "install it (Debian: apt-get install python3)",
            )
        if done.status == 0 and not errors:
            if chatter:
                return ProtocolFault(
                    self.node.name,
                    "it answered with text instead of the probe's JSON",
                    "check that its login shell runs commands",
                )
            return Unreachable(self.node.name, "the probe ended without a word")
        return NodeError(self.node.name, f"the probe ended with status {done.status}: {last}")

    def _failed(self, fault: LlamatopError, next_try_at: float) -> NodeSnapshot:
        faults = {**self.snapshot.faults, "node": sentence(fault)}
        return replace(
            self.snapshot,
            reachable=False,
            silent=isinstance(fault, NoAnswer),
            faults=faults,
            next_try_at=next_try_at,
        )

    def _tell(self, snapshot: NodeSnapshot) -> None:
        self.snapshot = snapshot
        self._news.set()
        self._changed(snapshot)


def bridged(snapshot: NodeSnapshot, before: NodeSnapshot, pending: Sequence[str]) -> NodeSnapshot:
    """The snapshot with what was known before in place of parts that are still waited for.

    After a connection is made again nothing vanishes for a tick or two; the old part has its age.
    """
    if before.received_at is None or snapshot.received_at is None:
        return snapshot
    passed = snapshot.received_at - before.received_at
    if "units" in pending and before.units and not snapshot.units:
        ages = {part: before.ages.get(part, 0.0) + passed for part in ("units", "workers")}
        snapshot = replace(
            snapshot,
            units=before.units,
            workers=before.workers,
            ages={**snapshot.ages, **ages},
        )
    if "gpus" in pending and before.gpus and not snapshot.gpus:
        age = before.ages.get("gpus", 0.0) + passed
        snapshot = replace(snapshot, gpus=before.gpus, ages={**snapshot.ages, "gpus": age})
    if "balancer" in pending and before.balancer is not None:
        age = before.ages.get("balancer", 0.0) + passed
        ages = {**snapshot.ages, "balancer": age}
        balancer = _files_of(before.balancer, snapshot.balancer)
        snapshot = replace(snapshot, balancer=balancer, ages=ages)
    return snapshot


def _files_of(before: BalancerSample, now: BalancerSample | None) -> BalancerSample:
    """The sample with what its files said before; of its processes only what is read now counts."""
    if now is None:
        return before
    return replace(
        now,
        version=before.version if now.version is None else now.version,
        config_valid=before.config_valid,
        config_error=before.config_error,
        reload_pending=before.reload_pending if now.running else None,
        members=before.members,
        shutdown_timeout=before.shutdown_timeout,
        proxying=before.proxying,
        fault=before.fault,
    )


def sentence(fault: LlamatopError) -> str:
    """What is wrong with a node and how to mend it, without the node's name before it."""
    if not isinstance(fault, NodeError):
        return plain(str(fault))
    return plain(fault.text + (f"; {fault.mend}" if fault.mend else ""))


def _excerpt(line: bytes) -> str:
    text = plain(line.decode("utf-8", "replace").strip())
    return text if len(text) <= 160 else text[:159] + "…"

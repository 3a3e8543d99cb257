"""A node that is read by HTTP alone: one worker, no unit, no cards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from llamatop.collect.backoff import Backoff
from llamatop.collect.decode import Decoder
from llamatop.engines import ENGINES
from llamatop.engines.exchange import Request, Response
from llamatop.errors import Unreachable
from llamatop.model.declared import Node
from llamatop.model.observed import NodeSnapshot
from llamatop.model.text import plain
from llamatop.transport.http import HttpReader

_ANSWERING = ("ok", "busy", "loading", "unauthorized", "error")


class HttpLink:
    """Keeps the snapshot of a node without ssh; the same face as `NodeLink`.

    Its worker goes by the name of its engine; `keys` are API keys by unit, the first is used.
    """

    def __init__(
        self,
        node: Node,
        changed: Callable[[NodeSnapshot], None],
        *,
        keys: Mapping[str, str] | None = None,
        interval_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        reader: Callable[[str, str | None], HttpReader] = HttpReader,
    ) -> None:
        self.node = node
        self.snapshot = NodeSnapshot(name=node.name)
        self.documents = 0
        self.attempts_failed = 0
        self.pending: tuple[str, ...] = ()
        self.identities: dict[str, tuple[str, float]] = {}
        self._changed = changed
        self._key = next(iter((keys or {}).values()), None)
        self._interval = interval_seconds
        self._clock = clock
        self._reader_for = reader
        self._backoff = Backoff()
        self._hurry = asyncio.Event()
        self._news = asyncio.Condition()
        self._memory: dict[str, Any] = {"url": node.url or ""}
        self._engine: str | None = None
        self._last: dict[str, Any] = {}

    async def run(self) -> None:
        """Read the worker once a tick, until cancelled."""
        reader = self._reader_for(self.node.url or "", self._key)
        # /health on a second connection tells whether a worker that is slow to answer lives.
        other = self._reader_for(self.node.url or "", self._key)
        decoder = Decoder(self.node.name)
        try:
            while True:
                started = self._clock()
                if self._engine is None:
                    self._engine, fault, silent = await detect(reader)
                    if self._engine is None:
                        delay = self._backoff.next_seconds()
                        await self._fail(fault, silent, self._clock() + delay)
                        await self._pause(delay)
                        continue
                await self._read(reader, other, decoder)
                await self._pause(max(0.05, started + self._interval - self._clock()))
        finally:
            await reader.close()
            await other.close()

    def hurry(self) -> None:
        """Read now instead of at the next tick."""
        self._backoff.reset()
        self._hurry.set()

    def ask_members(self, addresses: tuple[str, ...]) -> None:
        """Nothing: a node read by HTTP alone cannot ask."""

    async def refresh(self, timeout_seconds: float = 10.0) -> NodeSnapshot:
        """A snapshot read after this call; raises Unreachable where none comes in time."""
        wanted = self.documents + 2
        failed = self.attempts_failed
        try:
            async with asyncio.timeout(timeout_seconds), self._news:
                while self.documents < wanted:
                    self._hurry.set()
                    await self._news.wait()
                    if self.attempts_failed > failed:
                        raise Unreachable(self.node.name, self.snapshot.faults.get("node", ""))
        except TimeoutError:
            raise Unreachable(
                self.node.name, f"no figures came within {timeout_seconds:g} s"
            ) from None
        return self.snapshot

    async def _read(self, reader: HttpReader, other: HttpReader, decoder: Decoder) -> None:
        engine = ENGINES[self._engine or ""]
        reading = asyncio.create_task(
            converse(reader, engine.read(self._memory, self._key is not None))
        )
        begun = self._clock()
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=max(1.0, self._interval))
                if not reading.done():
                    checked = await converse(other, engine.check(self._memory))
                    await self._tell(decoder, {**self._last, **checked}, self._clock() - begun)
            self._last = reading.result()
        finally:
            reading.cancel()
        if self._last.get("health") not in _ANSWERING:
            await self._fail(str(self._last.get("fault") or "it does not answer"), True)
            self._engine = None
            return
        self._backoff.reset()
        await self._tell(decoder, self._last, 0.0)

    async def _tell(self, decoder: Decoder, sample: dict[str, Any], age: float) -> None:
        unit = self._engine or "worker"
        document: dict[str, object] = {
            "workers": {unit: {**sample, "unit": unit, "url": self.node.url}}
        }
        if age:
            document["ages"] = {f"workers/{unit}": age}
        snapshot = decoder.snapshot(document, self._clock())
        self.documents += 1
        self.attempts_failed = 0
        await self._publish(snapshot)

    async def _fail(self, fault: str, silent: bool, next_try_at: float | None = None) -> None:
        self.attempts_failed += 1
        faults = {**self.snapshot.faults, "node": plain(fault)}
        await self._publish(
            replace(
                self.snapshot,
                reachable=False,
                silent=silent,
                faults=faults,
                next_try_at=next_try_at,
            )
        )

    async def _publish(self, snapshot: NodeSnapshot) -> None:
        self.snapshot = snapshot
        async with self._news:
            self._news.notify_all()
        self._changed(snapshot)

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)


async def converse(reader: HttpReader, conversation: Any) -> dict[str, Any]:
    """Drive an engine's conversation to its end; what it returns is shaped like a WorkerSample."""
    try:
        request: Request = next(conversation)
        while True:
            request = conversation.send(await reader.exchange(request))
    except StopIteration as end:
        sample: dict[str, Any] = end.value
        return sample


async def detect(reader: HttpReader) -> tuple[str | None, str, bool]:
    """Which engine answers, or None, why that is not known, and whether nothing came back at all.

    Asks only what disturbs nothing.
    """
    health = await reader.exchange(Request("GET", "/health"))
    if health.error is not None:
        return None, health.error, health.refused or health.timed_out
    if "llama.cpp" in health.headers.get("server", ""):
        return "llama-server", "", False
    if _says_version(await reader.exchange(Request("GET", "/api/version"))):
        return "ollama", "", False
    if health.status in (200, 503):
        if _says_version(await reader.exchange(Request("GET", "/version"))):
            return "vllm", "", False
        if _llama_health(health):
            return "llama-server", "", False
    return (
        None,
        f"no known engine answers there (GET /health gave {health.status}); "
        "check the address and the port",
        False,
    )


def _llama_health(health: Response) -> bool:
    body = _object(health)
    error = body.get("error")
    return body.get("status") == "ok" or (isinstance(error, dict) and error.get("code") == 503)


def _says_version(response: Response) -> bool:
    return response.status == 200 and isinstance(_object(response).get("version"), str)


def _object(response: Response) -> dict[str, object]:
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

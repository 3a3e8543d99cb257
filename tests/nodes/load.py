"""Streaming requests as users send them, with a count of every token asked for and received."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx


@dataclass
class Stream:
    """One request: `asked` tokens, when each arrived (time.monotonic) and how it ended.

    `member` is the address that nginx says it sent it to, None where it did not answer. `whole` is
    true when the server itself ended the stream. `fault` says why not, None while it is under way.
    """

    asked: int
    begun: float
    arrivals: list[float] = field(default_factory=list)
    member: str | None = None
    whole: bool = False
    fault: str | None = None
    counted: int | None = None

    @property
    def received(self) -> int:
        """Tokens that arrived."""
        return len(self.arrivals)

    @property
    def cut(self) -> bool:
        """Whether an answer began and did not come whole."""
        return self.fault is not None and self.member is not None


class Load:
    """`concurrency` clients that each send one request after another until `finish`.

    Every request asks for a number of tokens between the two of `tokens`, drawn with `seed`. An
    async context manager: leaving it lets the streams under way end and then stops.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 4,
        tokens: Sequence[int] = (50, 400),
        prompt: str = "How are you today?",
        seed: int = 1,
        timeout: float = 120.0,
    ) -> None:
        self._url = f"{url}/completion"
        self._concurrency = concurrency
        self._least, self._most = tokens[0], tokens[-1]
        self._prompt = prompt
        self._random = random.Random(seed)
        self._timeout = timeout
        self._stopping = False
        self._clients: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()
        self.streams: list[Stream] = []

    async def __aenter__(self) -> Load:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        timeout = httpx.Timeout(self._timeout, connect=10)
        self._http = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)
        self._clients = [asyncio.create_task(self._client()) for _ in range(self._concurrency)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            await (self.abandon() if exception[0] else self.finish())
        finally:
            await self._http.aclose()

    async def finish(self) -> None:
        """Send nothing new and wait until the streams under way have ended."""
        self._stopping = True
        await asyncio.gather(*self._clients)

    async def abandon(self) -> None:
        """Hang up at once: the streams under way are cut by us and not counted as faults."""
        self._stopping = True
        clients, self._clients = self._clients, []
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self) -> None:
        while not self._stopping:
            asked = self._random.randint(self._least, self._most)
            stream = Stream(asked, time.monotonic())
            self.streams.append(stream)
            await self._send(stream)
            if stream.fault and stream.member is None:
                await asyncio.sleep(0.1)

    async def _send(self, stream: Stream) -> None:
        body = {"prompt": self._prompt, "n_predict": stream.asked, "stream": True}
        try:
            async with self._http.stream("POST", self._url, json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    stream.fault = f"HTTP {answer.status_code}"
                    return
                stream.member = answer.headers.get("x-llama-member", "").split(", ")[-1] or "?"
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        self._take(stream, json.loads(line[6:]))
        except httpx.HTTPError as error:
            stream.fault = f"{type(error).__name__}: {error}"
            return
        if not stream.whole:
            stream.fault = "the answer ended in the middle"

    def _take(self, stream: Stream, event: dict[str, object]) -> None:
        at = time.monotonic()
        tokens = event.get("tokens")
        if event.get("stop"):
            stream.whole = True
            timings = event.get("timings")
            if isinstance(timings, dict):
                stream.counted = timings.get("predicted_n")
        elif isinstance(tokens, list):
            stream.arrivals += [at] * len(tokens)
        self._progress.set()

    async def wait_tokens(self, count: int) -> None:
        """Wait until this many tokens more have arrived."""
        target = self.tokens + count
        while self.tokens < target:
            self._progress.clear()
            await self._progress.wait()

    @property
    def tokens(self) -> int:
        """Tokens received so far, of all requests."""
        return sum(stream.received for stream in self.streams)

    def tokens_between(self, begin: float, end: float) -> int:
        """Tokens that arrived from `begin` until before `end` (time.monotonic)."""
        return sum(begin <= at < end for stream in self.streams for at in stream.arrivals)

    @property
    def open_streams(self) -> list[Stream]:
        """Requests under way."""
        return [stream for stream in self.streams if not stream.whole and stream.fault is None]

    @property
    def cut(self) -> list[Stream]:
        """Streams that began and broke, or that brought fewer tokens than asked for."""
        short = [s for s in self.streams if s.whole and s.received != s.asked]
        return [stream for stream in self.streams if stream.cut] + short

    @property
    def failed(self) -> list[Stream]:
        """Requests that no member answered."""
        return [stream for stream in self.streams if stream.fault and stream.member is None]

    @property
    def by_member(self) -> Counter[str]:
        """How many requests each member answered."""
        return Counter(stream.member for stream in self.streams if stream.member)

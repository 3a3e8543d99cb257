"""A small HTTP/1.1 server on one loopback address, with answers that can be streamed."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from asyncio import StreamWriter
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

import h11
from msgspec import Struct, field

from .listening import listen, received

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
REASONS |= {501: "Not Implemented", 503: "Service Unavailable"}
JSON = "application/json; charset=utf-8"
Headers = tuple[tuple[str, str], ...]
Handler = Callable[["Exchange"], Coroutine[Any, Any, None]]


class Exchange(ABC):
    """One request and the way to answer it; header names are lower case.

    `brief` is for a reader who wants no more than the figures; `events` is None where nobody would
    read an answer bit by bit.
    """

    brief = False
    server = "llama.cpp"
    events: Events | None = None

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.headers = headers
        self.body = body
        self.path, _, asked = target.partition("?")
        self.query = {name: values[-1] for name, values in parse_qs(asked).items()} if asked else {}

    @abstractmethod
    async def answer(
        self, status: int, body: bytes | str, kind: str = JSON, headers: Headers = ()
    ) -> None:
        """Send a whole answer."""

    @abstractmethod
    def cut(self) -> None:
        """Drop the connection in the middle."""

    async def json(self, status: int, value: object) -> None:
        """Send a value as JSON, compact as llama-server prints it."""
        await self.answer(status, json.dumps(value, separators=(",", ":")))


class Connection:
    """A client's connection, for what h11 makes of the answers."""

    def __init__(self, writer: StreamWriter) -> None:
        self.protocol = h11.Connection(h11.SERVER)
        self.writer = writer

    def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the status and the headers."""
        reason = REASONS.get(status, "Unknown")
        self.send(h11.Response(status_code=status, reason=reason.encode(), headers=headers))

    def send(self, event: h11.Event) -> None:
        """Send a part of the answer."""
        data = self.protocol.send(event)
        if data:
            self.writer.write(data)


class Events:
    """Server-sent events as an answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self) -> None:
        """Send what comes before the first."""
        head = [("Server", "llama.cpp"), ("Content-Type", "text/event-stream")]
        self._connection.head(200, [*head, ("Transfer-Encoding", "chunked")])
        await self._connection.writer.drain()

    async def send(self, data: str) -> None:
        """Send one."""
        self._connection.send(h11.Data(data=f"data: {data}\n\n".encode()))
        await self._connection.writer.drain()

    async def end(self) -> None:
        """There are no more."""
        self._connection.send(h11.EndOfMessage())
        await self._connection.writer.drain()


class SocketExchange(Exchange):
    """A request that came over a connection."""

    def __init__(self, request: h11.Request, body: bytes, connection: Connection) -> None:
        super().__init__(
            request.method.decode(),
            request.target.decode("latin-1"),
            {k.decode().lower(): v.decode("latin-1") for k, v in request.headers},
            body,
        )
        self.connection = connection
        self.events = Events(connection)

    async def answer(
        self, status: int, body: bytes | str, kind: str = JSON, headers: Headers = ()
    ) -> None:
        """Send a whole answer."""
        data = body.encode() if isinstance(body, str) else body
        head = [("Server", self.server)] if self.server else []
        head += [("Content-Type", kind), *headers]
        self.connection.head(status, [*head, ("Content-Length", str(len(data)))])
        if data and self.method != "HEAD":
            self.connection.send(h11.Data(data=data))
        self.connection.send(h11.EndOfMessage())
        await self.connection.writer.drain()

    def cut(self) -> None:
        """Drop the connection in the middle."""
        self.connection.writer.close()


class WebServer(Struct):
    """Listens on one address while started; every request goes to the handler."""

    host: str
    port: int
    handler: Handler
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        """Begin to listen; raises OSError where the address is taken."""
        self.server = await listen(self._serve, self.host, self.port)

    @property
    def bound_port(self) -> int:
        """The port it listens on, which the kernel chose where `port` is 0."""
        assert self.server is not None
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        """Stop listening and drop every connection, as a process that ends does."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            await self._requests(reader, writer)
        except (ConnectionError, h11.ProtocolError):
            pass  # The client is gone, or does not speak HTTP.
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        protocol = connection.protocol
        reading: asyncio.Task[bytes] | None = None
        while True:
            request, body = None, b""
            while True:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    data = await (reading or received(reader))
                    reading = None
                    if not data and request is None:
                        return
                    protocol.receive_data(data)
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    break
            if request is None:
                return
            exchange = SocketExchange(request, body, connection)
            # Reading goes on while the answer is made: an end of file then is a client gone.
            answering = asyncio.ensure_future(self.handler(exchange))
            reading = asyncio.ensure_future(received(reader))
            try:
                await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and not reading.result():
                    return
                await answering
            finally:
                if not answering.done():
                    answering.cancel()
                    await asyncio.wait({answering})
                if protocol.our_state is not h11.DONE:
                    reading.cancel()
            if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
                return
            protocol.start_next_cycle()

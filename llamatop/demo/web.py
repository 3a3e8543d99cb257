"""A small HTTP/1.1 server on one loopback address, with answers that can be streamed."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamWriter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import h11

from .listening import listen, received

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
REASONS |= {501: "Not Implemented", 503: "Service Unavailable"}
Handler = Callable[["Exchange"], Coroutine[Any, Any, None]]


class Exchange:
    """One request and the way to answer it; header names are lower case.

    `brief` is for a reader who wants no more than the figures.
    """

    brief = False
    server = "llama.cpp"

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.headers = headers
        self.body = body
        self.path, _, asked = target.partition("?")
        self.query = {name: values[-1] for name, values in parse_qs(asked).items()} if asked else {}

    async def answer(
        self,
        status: int,
        body: bytes | str,
        kind: str = "application/json; charset=utf-8",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Send a whole answer."""
        raise NotImplementedError

    async def json(self, status: int, value: object) -> None:
        """Send a value as JSON, compact as llama-server prints it."""
        await self.answer(status, json.dumps(value, separators=(",", ":")))

    async def begin_events(self) -> None:
        """Begin a stream of server-sent events."""
        raise NotImplementedError

    async def event(self, data: str) -> None:
        """Send one event of the stream."""
        raise NotImplementedError

    async def end(self) -> None:
        """End the stream."""
        raise NotImplementedError

    def cut(self) -> None:
        """Drop the connection in the middle."""
        raise NotImplementedError


class SocketExchange(Exchange):
    """A request that came over a connection."""

    def __init__(
        self, request: h11.Request, body: bytes, connection: h11.Connection, writer: StreamWriter
    ) -> None:
        super().__init__(
            request.method.decode(),
            request.target.decode("latin-1"),
            {k.decode().lower(): v.decode("latin-1") for k, v in request.headers},
            body,
        )
        self.connection = connection
        self.writer = writer

    async def answer(
        self,
        status: int,
        body: bytes | str,
        kind: str = "application/json; charset=utf-8",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Send a whole answer."""
        data = body.encode() if isinstance(body, str) else body
        head = [("Server", self.server)] if self.server else []
        head += [("Content-Type", kind), *headers]
        self._send(self._head(status, [*head, ("Content-Length", str(len(data)))]))
        if data and self.method != "HEAD":
            self._send(h11.Data(data=data))
        self._send(h11.EndOfMessage())
        await self.writer.drain()

    async def begin_events(self) -> None:
        """Begin a stream of server-sent events."""
        head = [("Server", "llama.cpp"), ("Content-Type", "text/event-stream")]
        self._send(self._head(200, [*head, ("Transfer-Encoding", "chunked")]))
        await self.writer.drain()

    async def event(self, data: str) -> None:
        """Send one event of the stream."""
        self._send(h11.Data(data=f"data: {data}\n\n".encode()))
        await self.writer.drain()

    async def end(self) -> None:
        """End the stream."""
        self._send(h11.EndOfMessage())
        await self.writer.drain()

    def cut(self) -> None:
        """Drop the connection in the middle."""
        self.writer.close()

    def _head(self, status: int, headers: list[tuple[str, str]]) -> h11.Response:
        reason = REASONS.get(status, "Unknown")
        return h11.Response(status_code=status, reason=reason.encode(), headers=headers)

    def _send(self, event: h11.Event) -> None:
        data = self.connection.send(event)
        if data:
            self.writer.write(data)


@dataclass(slots=True)
class WebServer:
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
        connection = h11.Connection(h11.SERVER)
        reading: asyncio.Task[bytes] | None = None
        while True:
            request, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = await (reading or received(reader))
                    reading = None
                    if not data and request is None:
                        return
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    break
            if request is None:
                return
            exchange = SocketExchange(request, body, connection, writer)
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
                if connection.our_state is not h11.DONE:
                    reading.cancel()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

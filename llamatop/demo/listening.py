"""Listening sockets, and connections that end quietly: with the other side or the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _quiet(handler: Handler) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Only the end of the loop cancels a connection; asyncio would log that as a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await handler(reader, writer)

    return handle


async def listen(handler: Handler, host: str, port: int) -> asyncio.Server:
    """Accept TCP connections; raises OSError where the address is taken."""
    return await asyncio.start_server(_quiet(handler), host, port)


async def listen_at(handler: Handler, path: Path) -> asyncio.Server:
    """Accept connections on a Unix socket."""
    return await asyncio.start_unix_server(_quiet(handler), path)


async def received(reader: asyncio.StreamReader) -> bytes:
    """What comes next; b"" at the end, also where the other side broke off."""
    try:
        return await reader.read(65536)
    except OSError:
        return b""


async def both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    back: asyncio.StreamReader,
    onward: asyncio.StreamWriter,
) -> None:
    """Carry bytes between two connections until one of them ends."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await received(source):
                sink.write(data)
                await sink.drain()

    pumps = {
        asyncio.ensure_future(pump(reader, onward)),
        asyncio.ensure_future(pump(back, writer)),
    }
    _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for one in rest:
        one.cancel()
    await asyncio.wait(pumps)

"""Listening sockets, and connections that end quietly: with the other side or the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from . import shape
from .shape import SSH_PORT

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


def ssh_listener(address: str) -> socket.socket:
    """A bound SSH port; raises OSError where the address is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, SSH_PORT))
        listener.listen(32)
    except OSError:
        listener.close()
        raise
    return listener


def free_subnet(count: int) -> tuple[str, list[socket.socket]]:
    """A part of the loopback network that nobody uses, with an SSH listener bound on each address.

    Raises OSError where none can be had.
    """
    picks = random.SystemRandom()
    error: OSError | None = None
    for _ in range(20):
        subnet = f"127.{picks.randrange(16, 250)}.{picks.randrange(1, 250)}"
        listeners: list[socket.socket] = []
        try:
            for index in range(count):
                listeners.append(ssh_listener(shape.address(subnet, index)))
        except OSError as refused:
            error = refused
            for listener in listeners:
                listener.close()
            continue
        return subnet, listeners
    raise error or OSError("no free loopback address")

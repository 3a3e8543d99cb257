"""Byte streams shared by every kind of channel: lines out of chunks, a tail, run-to-the-end."""

from __future__ import annotations

import asyncio
from typing import Final

from llamatop.errors import NodeError, ProtocolFault, Unreachable
from llamatop.model.plan import Command

from .base import Channel, Completed

OUTPUT_LIMIT_BYTES: Final = 64 * 2**20
STDERR_TAIL_BYTES: Final = 64 * 2**10
CHUNK_BYTES: Final = 64 * 2**10


class Lines:
    """Bytes in, lines out; looks at each byte once however the chunks fall."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._data += data

    def take_line(self) -> bytes | None:
        """The next whole line with its newline, None where none has arrived yet."""
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            return None
        return self._take(end + 1)

    def take_rest(self) -> bytes:
        """Everything that is left."""
        return self._take(len(self._data))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._data[:count])
        del self._data[:count]
        self._searched = 0
        return taken


class Tail:
    """The last `limit` bytes of a stream."""

    def __init__(self, limit: int = STDERR_TAIL_BYTES) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what has arrived, forgetting the oldest."""
        self._data += data
        if len(self._data) > self._limit:
            del self._data[: -self._limit]

    def bytes(self) -> bytes:
        """What is kept."""
        return bytes(self._data)


def command_bytes(node: str, command: Command) -> bytes:
    """The command as the bytes a shell on the node gets; raises NodeError where it has none."""
    try:
        data = str(command).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise NodeError(
            node, "a command holds text that is not UTF-8, so it was not sent"
        ) from None
    if b"\0" in data:
        raise NodeError(node, "a command holds a NUL byte, so it was not sent")
    return data


def line_too_long(node: str, limit: int) -> ProtocolFault:
    """The fault of a program that prints without ever ending its line."""
    return ProtocolFault(node, f"a program there printed a line of more than {limit} bytes")


def output_too_long(node: str) -> ProtocolFault:
    """The fault of a program whose output nobody could hold in memory."""
    mebibytes = OUTPUT_LIMIT_BYTES // 2**20
    return ProtocolFault(node, f"a command there printed more than {mebibytes} MiB")


async def complete(
    node: str, channel: Channel, command: Command, stdin: bytes, timeout_seconds: float
) -> Completed:
    """Feed a started program, read it to the end and close it, whatever happens.

    Raises Unreachable when it does not end within `timeout_seconds`.
    """

    async def feed() -> None:
        try:
            if stdin:
                await channel.write(stdin)
            await channel.write_eof()
        except Unreachable:
            return  # it ended without reading its input, or wait() tells why it is gone

    feeder = asyncio.create_task(feed())
    try:
        async with asyncio.timeout(timeout_seconds):
            return await channel.wait()
    except TimeoutError:
        raise Unreachable(
            node, f"`{shortened(command)}` did not end within {timeout_seconds:g} s"
        ) from None
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        await channel.close()


def shortened(command: Command, limit: int = 120) -> str:
    """The command for a sentence: whole where it is short."""
    text = str(command)
    return text if len(text) <= limit else text[: limit - 1] + "…"

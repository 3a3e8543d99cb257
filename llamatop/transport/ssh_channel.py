"""A program behind ssh: paramiko's channel, read and written from the event loop without blocking.

Whoever reads the connection (the loop, or paramiko's thread) fills the channel's buffers and sets
an event; here that event has the loop look. Nothing is received or sent while the connection could
make the caller wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final, cast

import paramiko

from llamatop.errors import NoAnswer, Unreachable

from .base import Completed
from .deliveries import Deliveries
from .ssh_link import Link
from .streams import (
    CHUNK_BYTES,
    OUTPUT_LIMIT_BYTES,
    Lines,
    Tail,
    line_too_long,
    output_too_long,
)

RETRY_SECONDS: Final = 0.01
READ_AHEAD_BYTES: Final = 256 * 2**10
SETTLE_SECONDS: Final = 0.1


class _Waker:
    """What paramiko sets when data or an end has come, in its thread: a threading.Event's face."""

    def __init__(self, deliveries: Deliveries, wake: Callable[[], None]) -> None:
        self._deliveries = deliveries
        self._wake = wake

    def set(self) -> None:
        """Have the loop look at what has come."""
        self._deliveries.put(self._wake)

    def clear(self) -> None:
        """All has been taken: nothing to note, what comes next is told again."""


class SshChannel:
    """A program on a machine behind ssh; `forget` is called once it is closed."""

    def __init__(
        self,
        node: str,
        link: Link,
        channel: paramiko.Channel,
        forget: Callable[[SshChannel], object],
        deliveries: Deliveries,
    ) -> None:
        self._node = node
        self._link = link
        self._channel = channel
        self._forget = forget
        self._lines = Lines()
        self._tail = Tail()
        self._room = READ_AHEAD_BYTES
        self._ended = False
        self._closed = False
        self._left = True
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        channel.settimeout(0.0)
        self._deliveries = deliveries
        deliveries.join()
        # a whole threading.Event costs three locks a packet, and nobody waits for it
        waker = cast(threading.Event, _Waker(deliveries, self._pump))
        channel.in_buffer.set_event(waker)
        channel.in_stderr_buffer.set_event(waker)
        link.transport.packets.channels[channel.get_id()] = channel

    def _pump(self) -> None:
        """Take what has arrived, as far as there is room; runs in the loop and never waits."""
        if self._closed or self._ended:
            self._changed.set()
            return
        # an acknowledgement may have to be sent for what is received
        if not self._link.may_send():
            self._pump_again(RETRY_SECONDS)
            return
        channel = self._channel
        over = bool(channel.eof_received) or channel.closed
        try:
            if channel.recv_stderr_ready():
                self._tail.feed(channel.recv_stderr(CHUNK_BYTES))
            if channel.recv_ready() and len(self._lines) < self._room:
                self._lines.feed(channel.recv(CHUNK_BYTES))
                self._changed.set()
        except (OSError, EOFError, paramiko.SSHException):
            self._link.close("sending failed")
        more = channel.recv_ready()
        more_stderr = channel.recv_stderr_ready()
        self._left = more
        if more_stderr or (more and len(self._lines) < self._room):
            self._pump_again(0)
        if over and not more and not more_stderr:
            self._ended = True
            self._changed.set()

    def _pump_again(self, seconds: float) -> None:
        if self._retry is None:
            self._retry = self._loop.call_later(seconds, self._pump_now)

    def _pump_now(self) -> None:
        self._retry = None
        self._pump()

    async def _more(self, room: int) -> bool:
        """Wait for data, holding up to `room` bytes; False at the end of everything."""
        if self._ended or self._closed:
            return False
        self._room = room
        self._changed.clear()
        if self._left:
            self._pump()
        try:
            await self._changed.wait()
        finally:
            self._room = READ_AHEAD_BYTES
        return True

    async def write(self, data: bytes) -> None:
        """Send to standard input; raises Unreachable when connection or program is gone."""
        view = memoryview(data)
        count = self._link.at_once
        while view:
            self._check_writable()
            sent = 0
            if self._link.may_send() and self._channel.send_ready():
                try:
                    sent = self._channel.send(bytes(view[:count]))
                except TimeoutError:
                    sent = 0
                except (OSError, EOFError, paramiko.SSHException):
                    raise self._gone() from None
            view = view[sent:]
            if view:
                await asyncio.sleep(0 if sent else RETRY_SECONDS)

    def _check_writable(self) -> None:
        channel = self._channel
        if self._closed or channel.closed or channel.eof_sent or not self._link.alive:
            raise self._gone()

    async def write_eof(self) -> None:
        """Close standard input."""
        while not self._closed and not self._channel.closed and self._link.alive:
            if self._link.may_send():
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._channel.shutdown_write()
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        """The next line with its newline, b"" at the end; ProtocolFault past `limit` bytes.

        Raises Unreachable when the connection is cut.
        """
        while (line := self._lines.take_line()) is None:
            if len(self._lines) > limit:
                raise line_too_long(self._node, limit)
            if not await self._more(limit + CHUNK_BYTES):
                await self._raise_if_cut()
                return self._lines.take_rest()
        if len(line) > limit:
            raise line_too_long(self._node, limit)
        return line

    async def wait(self) -> Completed:
        """Wait for the end; raises Unreachable when the connection is cut before it."""
        while await self._more(OUTPUT_LIMIT_BYTES + CHUNK_BYTES):
            if len(self._lines) > OUTPUT_LIMIT_BYTES:
                raise output_too_long(self._node)
        await self._raise_if_cut()
        while not self._channel.exit_status_ready():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._changed.wait()
        status = self._channel.exit_status
        if status < 0:
            await self._raise_if_cut(settle=True)
        return Completed(status, self._lines.take_rest(), self._tail.bytes())

    async def _raise_if_cut(self, settle: bool = False) -> None:
        """A channel ends in the same way when its program does and when the line is cut."""
        if self._closed:
            raise self._gone()
        if self._channel.eof_received and not settle:
            return
        await asyncio.sleep(SETTLE_SECONDS)  # paramiko ends channels before it says it is dead
        if not self._link.alive:
            raise self._gone()

    def _gone(self) -> Unreachable:
        if self._link.alive and not self._closed:
            return Unreachable(self._node, "the program there has ended")
        if self._closed and self._link.alive:
            return Unreachable(self._node, "the program there was closed from here")
        reason = self._link.reason or "the other side closed it or the network broke"
        return NoAnswer(self._node, f"the connection was cut ({reason})")

    async def close(self) -> None:
        """Hang up and close: the program sees end of file, and SIGHUP but for logins as root."""
        if self._closed:
            return
        self._closed = True
        self._deliveries.leave()
        self._changed.set()
        self._forget(self)
        self._link.transport.packets.channels.pop(self._channel.get_id(), None)
        if self._retry is not None:
            self._retry.cancel()
        if not self._link.alive:
            return
        if self._link.may_send():
            self._end()
        else:
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if not self._channel.closed and not self._channel.exit_status_ready():
                self._link.transport.hang_up(self._channel)
            self._channel.close()

"""The bytes under an ssh connection: a socket's, or a channel's of the hop before."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final, cast

import paramiko

HEAD_BYTES: Final = 400
BULK_BYTES: Final = 2**13
HELD_BYTES: Final = 2**16
FEW_BYTES: Final = 4096
MANY_BYTES: Final = 2**15
# paramiko's own tenth of a second costs a core a hundredth with 64 connections that rest.
WAKE_SECONDS: Final = 1.0
REST_SECONDS: Final = 30.0


class Stream:
    """The bytes under a Transport: a socket, or a channel of the hop before.

    `received` counts bytes, so that silence can be told from life; `head` keeps the first ones.
    `owner` is the thread that reads it, `at_once` how many bytes are sure to be taken without
    waiting while `may_send`. paramiko asks for each packet in three pieces: what has
    come is taken whole and handed out from here.
    """

    def __init__(self, raw: socket.socket | paramiko.Channel) -> None:
        self._raw = raw
        self.owner = threading.current_thread()
        self._shut = False
        self._poll: select.poll | None = None
        self.at_once = FEW_BYTES
        if isinstance(raw, socket.socket):
            self._poll = select.poll()
            self._poll.register(raw, select.POLLOUT)
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MANY_BYTES)
                # a socket polls as writable when a third of its buffer is free
                if raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 4 * MANY_BYTES:
                    self.at_once = MANY_BYTES
        self._held = b""
        self._only_held = False
        self.received = 0
        self.head = b""

    def recv(self, count: int) -> bytes:
        """The next bytes, as a socket's recv."""
        data = self._held
        if not data:
            if self._only_held:
                raise paramiko.SSHException("a packet is longer than it says")
            try:
                data = self._raw.recv(max(count, HELD_BYTES))
            except BlockingIOError:
                raise TimeoutError from None
            self.received += len(data)
            if len(self.head) < HEAD_BYTES:
                self.head = (self.head + data)[:HEAD_BYTES]
        self._held = data[count:]
        return data[:count]

    @property
    def descriptor(self) -> int | None:
        """The socket's, None where there is none, -1 once it is closed."""
        return self._raw.fileno() if isinstance(self._raw, socket.socket) else None

    @property
    def held(self) -> bytes:
        """What has come and has not been handed out."""
        return self._held

    @contextlib.contextmanager
    def as_held(self) -> Iterator[None]:
        """Hand out what is held and wait for nothing; SSHException where more is asked for."""
        self._only_held = True
        try:
            yield
        finally:
            self._only_held = False

    def take(self) -> bool:
        """Hold what has come by now; whether there may be more. Raises EOFError at the end."""
        assert isinstance(self._raw, socket.socket)
        try:
            data = self._raw.recv(HELD_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not data:
            raise EOFError
        self.received += len(data)
        self._held = self._held + data if self._held else data
        # what comes in bulk has filled the kernel's buffer again before the next pause is over
        return len(data) >= BULK_BYTES

    def send(self, data: bytes) -> int:
        """Send some of it, as a socket's send."""
        return self._raw.send(data)

    def settimeout(self, seconds: float) -> None:
        """As a socket's settimeout; paramiko looks up at each, and is woken by `close` anyway.

        The kernel keeps the time: Python would poll before each read.
        """
        seconds = max(seconds, WAKE_SECONDS)
        if isinstance(self._raw, socket.socket):
            self._raw.settimeout(None)
            self._limit(socket.SO_RCVTIMEO, seconds)
            self._limit(socket.SO_SNDTIMEO, seconds)
        else:
            self._raw.settimeout(seconds)

    def rest(self) -> None:
        """From now on there is no hurry to look up: whoever waits for an answer keeps the time."""
        if isinstance(self._raw, socket.socket):
            with contextlib.suppress(OSError):
                self._limit(socket.SO_RCVTIMEO, REST_SECONDS)

    def _limit(self, option: int, seconds: float) -> None:
        assert isinstance(self._raw, socket.socket)
        # A struct timeval as this kernel has it: two words of 64 bits, or of 32.
        size = len(self._raw.getsockopt(socket.SOL_SOCKET, option, 16))
        whole, part = divmod(int(seconds * 1e6), 10**6)
        limit = struct.pack("=qq" if size == 16 else "=ii", whole, part)
        self._raw.setsockopt(socket.SOL_SOCKET, option, limit)

    def await_answer(self, seconds: float) -> None:
        """Wait until the first bytes or the end have come, not longer than `seconds`."""
        if isinstance(self._raw, socket.socket):
            coming = select.poll()
            with contextlib.suppress(OSError, ValueError):
                coming.register(self._raw, select.POLLIN)
                coming.poll(seconds * 1000)

    def close(self) -> None:
        """Close what is underneath; from another thread only end it, so that its owner closes it.

        A descriptor closed under a reader may be another socket's a moment later. A channel ends
        with the hop before.
        """
        self._shut = True
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if isinstance(self._raw, socket.socket):
                self._raw.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is self.owner:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._raw.close()

    @property
    def _closed(self) -> bool:
        return self._shut

    def may_send(self) -> bool:
        """Whether a few kilobytes can be sent now without waiting; True where it is closed."""
        if self._shut:
            return True
        if self._poll is None:
            return cast(paramiko.Channel, self._raw).send_ready()
        try:
            return bool(self._poll.poll(0))
        except OSError:
            return True

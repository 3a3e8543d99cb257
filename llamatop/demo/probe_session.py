"""The probe's side of an SSH channel, held by the event loop: set up, kept alive, a line a tick.

What the client sends and what it gets are the probe's own; only the process behind is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import shlex
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko

from llamatop.probe import wire

from .reading import Reading

CHUNK = 65536
SILENCE_SECONDS = 5.0
RETRY_SECONDS = 0.02


def payload_bytes(command: bytes) -> int | None:
    """How much the command reads before it begins, None where it does not start the probe."""
    try:
        words = shlex.split(command.decode())
    except ValueError:
        return None
    starts = words[:3] == ["python3", "-ISB", "-c"] and len(words) == 5
    if not starts or "llamatop-bootstrap" not in words[3] or not words[4].isdigit():
        return None
    return int(words[4])


class _Waker(threading.Event):
    """Set by paramiko's thread when something has come; calls back in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._wake = wake

    def set(self) -> None:
        """Something came."""
        super().set()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the demo has ended
            self._loop.call_soon_threadsafe(self._wake)


class ProbeSession:
    """One channel; to be made in the event loop. `moving` is cleared by a partition."""

    def __init__(
        self,
        channel: paramiko.Channel,
        payload: int,
        reading: Reading,
        moving: threading.Event,
    ) -> None:
        self._channel = channel
        self._left = payload
        self._reading = reading
        self._moving = moving
        self._loop = asyncio.get_running_loop()
        self._input = b""
        self._unsent = b""
        self._sent: dict[str, Any] = {}
        self._heard_at = self._next_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        channel.settimeout(0.0)
        channel.in_buffer.set_event(_Waker(self._loop, self._readable))

    # --- what comes ------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._over or not self._moving.is_set():
            return
        try:
            while self._channel.recv_ready() and self._may_send():
                self._take(self._channel.recv(CHUNK))
        except (OSError, EOFError, paramiko.SSHException):
            self._end()
        if self._channel.eof_received or self._channel.closed:
            self._end()

    def _take(self, data: bytes) -> None:
        skipped = min(self._left, len(data))
        self._left -= skipped
        *lines, self._input = (self._input + data[skipped:]).split(b"\n")
        for line in lines:
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        self._heard_at = time.monotonic()
        if "interval" in told:
            self._reading.configure(told)
        if isinstance(told.get("now"), int):
            self._reading.request(told["now"])
        if "interval" in told or "now" in told:
            self._next_at = self._heard_at
            self._tick()

    # --- what goes -------------------------------------------------------------------------

    def _tick(self) -> None:
        """Tell what there is now, and arrange for the next time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._over:
            return
        now = time.monotonic()
        if self._moving.is_set():
            self._readable()
            if now - self._heard_at > SILENCE_SECONDS:
                self._end()
                return
            if not self._unsent:
                # Where the network stands still, this tick melts into the next one's difference.
                document = self._reading.document()
                self._unsent = wire.line(wire.diff(document, self._sent))
                self._sent = document
            self._send()
        self._next_at = max(self._next_at + self._reading.interval, now + 0.05)
        self._timer = self._loop.call_later(self._next_at - now, self._tick)

    def _send(self) -> None:
        try:
            while self._unsent and not self._over:
                if not self._moving.is_set() or not self._may_send():
                    self._loop.call_later(RETRY_SECONDS, self._send)
                    return
                part = self._unsent[: min(4096, self._channel.out_window_size)]
                self._unsent = self._unsent[self._channel.send(part) :]
        except (OSError, EOFError, paramiko.SSHException):
            self._end()

    def _may_send(self) -> bool:
        """Whether sending would not make this thread, and with it every machine, wait."""
        transport = self._channel.get_transport()
        if self._channel.out_window_size <= 0 or not transport.clear_to_send.is_set():
            return False
        waiting = select.poll()
        try:
            waiting.register(transport.sock.fileno(), select.POLLOUT)
        except (OSError, ValueError):
            return True  # It is closed, which sending will say.
        return bool(waiting.poll(0))

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.send_exit_status(0)
            self._channel.close()

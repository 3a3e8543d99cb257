"""HTTP/1.1 over a non-blocking socket: one question at a time, kept open between questions.

http.client reads headers with the email parser, which alone would cost the probe its budget.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

from llamatop.engines.exchange import BODY_LIMIT_BYTES, Response

from . import reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Dict

    from llamatop.engines.exchange import Request

    Done = Callable[[Response], None]

_HEAD_LIMIT_BYTES = 65536
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)


class Connection:
    """A connection to one address, made when it is first needed and again when it was cut."""

    def __init__(self, loop: reactor.Reactor, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._loop = loop
        self._socket: socket.socket | None = None
        self._done: Done | None = None
        self._timer: reactor.Timer | None = None
        self._message = b""
        self._unsent = b""
        self._asked_at = 0.0
        self._reused = False
        self._limit = 0.0
        self._reading = _Reading()

    def ask(self, request: Request, key: str | None, prefix: str, done: Done) -> None:
        """Send `request` and call `done` once with the response; never before this returns."""
        name = "[%s]" % self.host if ":" in self.host else self.host
        lines = [
            "%s %s%s HTTP/1.1" % (request.method, prefix, request.path),
            "Host: %s:%d" % (name, self.port),
            "User-Agent: llamatop",
            "Accept: */*",
        ]
        if key is not None:
            lines.append("Authorization: Bearer " + key)
        self._message = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        self._done = done
        self._asked_at = time.monotonic()
        self._limit = request.timeout_seconds
        self._timer = self._loop.at(self._asked_at + self._limit, self._late)
        self._reused = self._socket is not None
        self._send()

    def _send(self) -> None:
        self._reading = _Reading()
        self._unsent = self._message
        try:
            if self._socket is None:
                self._connect()
            else:
                self._flush()
        except OSError as error:
            self._fail_soon(error)

    def _connect(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = connected = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = connected.connect_ex((self.host, self.port))
        if status not in (0, errno.EINPROGRESS):
            raise OSError(status, os.strerror(status))
        self._loop.watch(connected.fileno(), reactor.WRITE, self._ready)

    def _ready(self, mask: int) -> None:
        connected = self._socket
        if connected is None:
            return
        try:
            if self._unsent:
                status = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if status:
                    raise OSError(status, os.strerror(status))
                self._flush()
            if mask & ~reactor.WRITE:
                self._receive(connected.recv(262144))
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)

    def _flush(self) -> None:
        connected = self._socket
        if connected is None:
            return
        try:
            sent = connected.send(self._unsent)
        except BlockingIOError:
            sent = 0
        self._unsent = self._unsent[sent:]
        mask = reactor.READ | reactor.WRITE if self._unsent else reactor.READ
        self._loop.watch(connected.fileno(), mask, self._ready)

    def _receive(self, data: bytes) -> None:
        if self._done is None:
            # the server closed an idle connection, or speaks out of turn
            self.close()
            return
        if not data and not self._reading.started and self._reused:
            # it closed just as we asked: once more, afresh
            self.close_socket()
            self._reused = False
            self._send()
            return
        error = self._reading.feed(data)
        if error is not None:
            self._answer(Response(0, {}, b"", error))
        elif self._reading.complete:
            reading = self._reading
            if not reading.keep:
                self.close_socket()
            self._answer(Response(reading.status, reading.headers, reading.body()))

    def _late(self) -> None:
        text = "no answer within %g s" % self._limit
        if self._reading.started:
            text = "the answer did not end within %g s" % self._limit
        self._answer(Response(0, {}, b"", text, timed_out=True))

    def _fail_soon(self, error: OSError) -> None:
        self._loop.at(self._asked_at, lambda: self._fail(error))

    def _fail(self, error: OSError) -> None:
        if self._done is None:
            self.close()
            return
        if self._reused and not self._reading.started and error.errno != errno.ECONNREFUSED:
            self.close_socket()
            self._reused = False
            self._send()
            return
        refused = error.errno == errno.ECONNREFUSED
        self._answer(Response(0, {}, b"", (error.strerror or "cut").lower(), refused=refused))

    def _answer(self, response: Response) -> None:
        if response.error is not None:
            self.close_socket()
        now = time.monotonic()
        response.seconds = now - self._asked_at
        response.at_seconds = now
        done, self._done = self._done, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if done is not None:
            done(response)

    def close_socket(self) -> None:
        """End the connection without leaving it in TIME_WAIT, eight a second for every node."""
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
            except OSError:
                pass
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Give up what is under way, without calling `done`."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.close_socket()


class _Reading:
    """One response as it arrives; `feed` gives an error clause for what is not HTTP."""

    __slots__ = (
        "_chunked",
        "_data",
        "_length",
        "_parts",
        "complete",
        "headers",
        "keep",
        "started",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: Dict[str, str] = {}
        self.keep = False
        self.complete = False
        self.started = False
        self._data = b""
        self._parts: list[bytes] = []
        self._length: int | None = None
        self._chunked = False

    def body(self) -> bytes:
        return b"".join(self._parts) if self._chunked else self._data

    def feed(self, data: bytes) -> str | None:
        if not data:
            return self._end()
        self.started = True
        self._data = self._data + data if self._data else data
        if not self.status:
            error = self._head()
            if error is not None or not self.status:
                return error
        if self._chunked:
            return self._chunks()
        if len(self._data) > BODY_LIMIT_BYTES:
            return _TOO_LARGE
        if self._length is not None and len(self._data) >= self._length:
            if len(self._data) > self._length:
                self._data = self._data[: self._length]
                self.keep = False
            self.complete = True
        return None

    def _end(self) -> str | None:
        if self.status and self._length is None and not self._chunked:
            self.complete = True
            self.keep = False
            return None
        if not self.started:
            return "closed the connection without an answer"
        if not self.status:
            return "does not speak HTTP"
        return "the answer broke off"

    def _head(self) -> str | None:
        if not b"HTTP/1.".startswith(self._data[:7]):
            return "does not speak HTTP"
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return "endless headers" if len(self._data) > _HEAD_LIMIT_BYTES else None
        lines = self._data[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(None, 2)
        status = words[1] if len(words) > 1 else ""
        if len(status) != 3 or not status.isdigit():
            return "does not speak HTTP"
        headers: Dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._data = self._data[end + 4 :]
        if status[0] == "1":
            # 100 Continue and its kind: the answer follows
            return self._head() if self._data else None
        self.headers = headers
        self.status = int(status)
        self.keep = lines[0].startswith("HTTP/1.1") and headers.get("connection", "") != "close"
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if self._chunked:
            return None
        if length is not None:
            if not length.isdigit() or len(length) > 15:
                return "does not speak HTTP"
            self._length = int(length)
            if self._length > BODY_LIMIT_BYTES:
                return _TOO_LARGE
        elif self.status in (204, 304):
            self._length = 0
        return None

    def _chunks(self) -> str | None:
        while True:
            end = self._data.find(b"\r\n")
            if end < 0:
                return "does not speak HTTP" if len(self._data) > 1024 else None
            try:
                size = int(self._data[:end].partition(b";")[0], 16)
            except ValueError:
                return "does not speak HTTP"
            if size < 0 or size > BODY_LIMIT_BYTES:
                return _TOO_LARGE
            if size == 0:
                if self._data.endswith(b"\r\n\r\n") or self._data[end:] == b"\r\n\r\n":
                    self.complete = True
                return None
            if len(self._data) < end + 2 + size + 2:
                return None
            self._parts.append(self._data[end + 2 : end + 2 + size])
            self._data = self._data[end + 2 + size + 2 :]
            if sum(map(len, self._parts)) > BODY_LIMIT_BYTES:
                return _TOO_LARGE


_TOO_LARGE = "the answer is larger than %d MiB" % (BODY_LIMIT_BYTES // 2**20)

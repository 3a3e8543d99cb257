"""One open ssh connection: its hops, whether it may be sent on without waiting, and its end."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import warnings
from typing import Final, Protocol, cast

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    cMSG_CHANNEL_REQUEST,
    cMSG_GLOBAL_REQUEST,
)

from .ssh_config import HostConfig

HEAD_BYTES: Final = 400
HELD_BYTES: Final = 2**16
FEW_BYTES: Final = 4096
MANY_BYTES: Final = 2**15
# paramiko's own tenth of a second costs a core a hundredth with 64 connections that rest.
WAKE_SECONDS: Final = 1.0
REST_SECONDS: Final = 30.0
_TO_A_CHANNEL: Final = range(MSG_CHANNEL_WINDOW_ADJUST, MSG_CHANNEL_REQUEST + 1)

# paramiko logs what it sees to whoever listens, and Python's last resort is the terminal
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False
warnings.filterwarnings("ignore", module=r"paramiko(\.|$)")


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
        self.received = 0
        self.head = b""

    def recv(self, count: int) -> bytes:
        """The next bytes, as a socket's recv."""
        data = self._held
        if not data:
            try:
                data = self._raw.recv(max(count, HELD_BYTES))
            except BlockingIOError:
                raise TimeoutError from None
            self.received += len(data)
            if len(self.head) < HEAD_BYTES:
                self.head = (self.head + data)[:HEAD_BYTES]
        self._held = data[count:]
        return data[:count]

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


class _Protected(Protocol):
    """What paramiko keeps for its own subclasses, and its type stubs leave out."""

    def _send_user_message(self, message: paramiko.Message) -> None: ...

    def _send_message(self, message: paramiko.Message) -> None: ...

    def _parse_channel_open_success(self, message: paramiko.Message) -> None: ...

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None: ...


class SshTransport(paramiko.Transport):
    """A Transport that can ask for a sign of life, pass on a signal, and keeps the last words.

    paramiko's thread closes a channel when its program ends, while another thread may be about to
    send that channel an end of file; sshd cuts the connection of all for it. It is left out.
    """

    farewell = ""
    refusal = ""

    def __init__(self, sock: socket.socket) -> None:
        self._over: set[int] = set()
        super().__init__(sock)

    def _send_message(self, message: paramiko.Message) -> None:
        # only one thread at a time comes here: it holds clear_to_send_lock
        sent = message.asbytes()
        if sent[0] in _TO_A_CHANNEL:
            channel = int.from_bytes(sent[1:5], "big")
            if channel in self._over:
                return
            if sent[0] == MSG_CHANNEL_CLOSE:
                self._over.add(channel)
        cast(_Protected, super())._send_message(message)

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        message.get_int()
        self._over.discard(message.get_int())
        message.rewind()
        cast(_Protected, super())._parse_channel_open_success(message)

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        message.get_int()
        message.get_int()
        self.refusal = message.get_text()
        message.rewind()
        cast(_Protected, super())._parse_channel_open_failure(message)

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.farewell = message.get_text()

    def ask_alive(self) -> None:
        """Send a question that every server answers, if only with no; same as ServerAlive."""
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        cast(_Protected, self)._send_user_message(message)

    def hang_up(self, channel: paramiko.Channel) -> None:
        """Have the server send SIGHUP to the channel's program (RFC 4254, 6.9)."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("HUP")
        cast(_Protected, self)._send_user_message(message)


class Hop:
    """One authenticated connection of a link."""

    def __init__(self, config: HostConfig, transport: SshTransport, stream: Stream) -> None:
        self.config = config
        self.transport = transport
        self.stream = stream


class Link:
    """The hops to one machine, the nearest to here first; the last one is the machine."""

    def __init__(self) -> None:
        self.hops: list[Hop] = []
        self.proxy: subprocess.Popen[bytes] | None = None
        self.reason: str | None = None
        self._streams: list[Stream] = []
        self._lock = threading.Lock()
        self._closed = False

    def add_stream(self, stream: Stream) -> None:
        """Take charge of a stream; closes it at once where the link is closed already."""
        with self._lock:
            self._streams.append(stream)
            closed = self._closed
        if closed:
            stream.close()

    @property
    def transport(self) -> SshTransport:
        """The connection to the machine itself."""
        return self.hops[-1].transport

    @property
    def alive(self) -> bool:
        """Whether every hop still stands."""
        return (
            not self._closed
            and bool(self.hops)
            and all(hop.transport.is_active() for hop in self.hops)
        )

    @property
    def closed(self) -> bool:
        """Whether this side closed it."""
        return self._closed

    @property
    def received(self) -> int:
        """Bytes that have come from the machine, to see whether it lives."""
        return self.hops[-1].stream.received

    def may_send(self) -> bool:
        """Whether sending a little now cannot block, at any hop; True where all is lost anyway."""
        return not self.alive or all(
            hop.transport.clear_to_send.is_set() and hop.stream.may_send() for hop in self.hops
        )

    @property
    def at_once(self) -> int:
        """How many bytes can be sent without waiting while `may_send`."""
        return min(hop.stream.at_once for hop in self.hops)

    def close(self, reason: str | None = None) -> None:
        """Cut it here: every channel ends. The outermost goes first so that nothing is sent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.reason = reason
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        for hop in self.hops:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                hop.transport.close()
        proxy = self.proxy
        if proxy is not None and proxy.poll() is None:
            _signal(proxy, signal.SIGTERM)
            threading.Thread(target=_reap, args=(proxy,), daemon=True).start()


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the whole group: a ProxyCommand may be a pipeline."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

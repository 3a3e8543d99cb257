"""One open ssh connection: its hops, whether it may be sent on without waiting, and its end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
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

from .deliveries import Deliveries
from .ssh_config import HostConfig
from .ssh_packets import Packets
from .ssh_stream import Stream

_TO_A_CHANNEL: Final = range(MSG_CHANNEL_WINDOW_ADJUST, MSG_CHANNEL_REQUEST + 1)

# paramiko logs what it sees to whoever listens, and Python's last resort is the terminal
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False
warnings.filterwarnings("ignore", module=r"paramiko(\.|$)")


class _Protected(Protocol):
    """What paramiko keeps for its own subclasses, and its type stubs leave out."""

    def _send_user_message(self, message: paramiko.Message) -> None: ...

    def _send_message(self, message: paramiko.Message) -> None: ...

    def _parse_channel_open_success(self, message: paramiko.Message) -> None: ...

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None: ...


class _Agreed(Protocol):
    """What was agreed on for what comes."""

    remote_cipher: str
    remote_mac: str


class SshTransport(paramiko.Transport):
    """A Transport that can ask for a sign of life, pass on a signal, and keeps the last words.

    paramiko's thread closes a channel when its program ends, while another thread may be about to
    send that channel an end of file; sshd cuts the connection of all for it. It is left out.
    """

    farewell = ""
    refusal = ""

    def __init__(self, sock: socket.socket) -> None:
        self._over: set[int] = set()
        super().__init__(sock, packetizer_class=Packets)

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

    @property
    def packets(self) -> Packets:
        """What comes and goes underneath."""
        return cast(Packets, self.packetizer)

    def tells_lengths(self) -> bool:
        """Whether a packet's length can be read before the packet has come: now and as agreed."""
        of = cast(_Agreed, self)
        agreed = f"{of.remote_cipher} {of.remote_mac}"
        return self.clear_to_send.is_set() and ("-gcm@" in agreed or "-etm@" in agreed)

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
        self._deliveries: Deliveries | None = None

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

    def let_read(self, deliveries: Deliveries) -> None:
        """From now on have the event loop read what comes, where there is a socket of its own."""
        if len(self.hops) == 1 and not self._closed:
            self._deliveries = deliveries
            deliveries.attach()
            self.transport.packets.let_read(deliveries, self.transport.tells_lengths)

    def expect(self) -> None:
        """An answer is waited for, which is not to wait for the loop's next look."""
        self.transport.packets.expect()

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
        if self._deliveries is not None:
            self._deliveries.detach()
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

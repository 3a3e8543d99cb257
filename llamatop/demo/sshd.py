"""The SSH server of a simulated machine: one key gets in, and what it asks for runs for real."""

from __future__ import annotations

import asyncio
import hmac
import io
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import paramiko
from paramiko import common

from .keys import Key
from .machine import Machine
from .probe_session import ProbeSession, payload_bytes
from .reading import Reading
from .session import Session, carry

AUTH_SECONDS = 30.0
PREPARE_SECONDS = 30.0
GATE_SECONDS = 0.1


class Sshd:
    """Listens on one address; every session runs in the environment of its machine.

    `may_forward(host, port)` says where a jump may lead to; `prepare` is called in the event loop
    before anything real runs. With a `machine` the probe runs within
    this process. A cleared `moving` is a partition: nobody gets in and nothing moves.
    """

    def __init__(
        self,
        listener: socket.socket,
        host_key: Key,
        client_key: Key,
        environ: dict[str, str],
        home: str,
        may_forward: Callable[[str, int], bool],
        prepare: Callable[[], None],
        machine: Machine | None = None,
    ) -> None:
        self.listener = listener
        self.host_key = paramiko.Ed25519Key.from_private_key(io.StringIO(host_key.private))
        self.client_blob = client_key.blob
        self.environ = environ
        self.home = home
        self.may_forward = may_forward
        self.prepare = prepare
        self.machine = machine
        self.moving = threading.Event()
        self.moving.set()
        self.transports: set[paramiko.Transport] = set()
        self.accepting: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to accept; the listener has been bound before, early callers wait in its queue."""
        self.listener.setblocking(False)
        self.loop = asyncio.get_running_loop()
        self.accepting = self.loop.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self.listener)
            except OSError:
                return  # Closed by stop().
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        try:
            # paramiko asks no more of a socket than _Gate has.
            gate = cast("socket.socket", _Gate(connection, self.moving))
            transport = paramiko.Transport(gate)
            transport.local_version = "SSH-2.0-llamatop-demo"
            transport.auth_timeout = AUTH_SECONDS
            transport.add_server_key(self.host_key)
            self.transports = {one for one in self.transports if one.is_active()}
            self.transports.add(transport)
            guest = _Guest(self)
            # An event makes this return at once; the handshake goes on in the transport's thread.
            transport.start_server(event=threading.Event(), server=guest)
            threading.Thread(target=guest.host, args=(transport,), daemon=True).start()
        except (paramiko.SSHException, OSError, EOFError):
            connection.close()

    def prepared(self) -> None:
        """Wait until the machine is ready for something real; not called in the event loop."""

        async def prepare() -> None:
            self.prepare()

        if self.loop is not None:
            asyncio.run_coroutine_threadsafe(prepare(), self.loop).result(PREPARE_SECONDS)

    def begin_probe(self, channel: paramiko.Channel, payload: int) -> None:
        """Run a probe in the event loop; called from a transport's thread."""

        def begin() -> None:
            if self.machine is not None:
                ProbeSession(channel, payload, Reading(self.machine), self.moving)

        if self.loop is not None:
            self.loop.call_soon_threadsafe(begin)

    def freeze(self) -> None:
        """A partition: connections stay open and nothing moves on them."""
        self.moving.clear()
        # The listener stays: who calls now waits in its queue.
        if self.accepting is not None:
            self.accepting.cancel()

    def thaw(self) -> None:
        """The partition is over."""
        self.moving.set()
        self.start()

    def stop(self) -> None:
        """Close everything; sessions see a hang-up."""
        if self.accepting is not None:
            self.accepting.cancel()
        self.listener.close()
        self.moving.set()
        for transport in self.transports:
            transport.close()


class _Gate:
    """A socket from which nothing comes while `moving` is cleared."""

    def __init__(self, inner: socket.socket, moving: threading.Event) -> None:
        self._inner = inner
        self._moving = moving

    def recv(self, size: int) -> bytes:
        """What came; raises TimeoutError where nothing did."""
        if not self._moving.wait(GATE_SECONDS):
            raise TimeoutError
        return self._inner.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Guest(paramiko.ServerInterface):
    """What one connection may do."""

    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd
        self.sessions: dict[int, Session] = {}
        self.forwards: dict[int, socket.socket] = {}

    def host(self, transport: paramiko.Transport) -> None:
        """Take each channel that opens, until the connection ends."""
        while transport.is_active():
            channel = transport.accept(5.0)
            if channel is None:
                continue
            onward = self.forwards.pop(channel.get_id(), None)
            if onward is not None:
                carry(channel, onward)
            self.sessions = {n: one for n, one in self.sessions.items() if not one.channel.closed}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if hmac.compare_digest(key.asbytes(), self.sshd.client_blob):
            return common.AUTH_SUCCESSFUL
        return common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return common.OPEN_SUCCEEDED
        return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def _session(self, channel: paramiko.Channel) -> Session:
        number = channel.get_id()
        if number not in self.sessions:
            sshd = self.sshd
            self.sessions[number] = Session(
                channel, sshd.environ, sshd.home, sshd.moving, sshd.prepared
            )
        return self.sessions[number]

    def check_channel_pty_request(
        self,
        channel: paramiko.Channel,
        term: bytes,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: bytes,
    ) -> bool:
        self._session(channel).want_terminal(term.decode("latin-1"), width, height)
        return True

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        self._session(channel).resize(width, height)
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        self._session(channel).begin(None)
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        payload = payload_bytes(command) if self.sshd.machine is not None else None
        if payload is None:
            self._session(channel).begin(command)
        else:
            self.sshd.begin_probe(channel, payload)
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self.sshd.may_forward(*destination):
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            onward = socket.create_connection(destination, timeout=5)
        except OSError:
            return common.OPEN_FAILED_CONNECT_FAILED
        onward.settimeout(None)
        self.forwards[chanid] = onward
        return common.OPEN_SUCCEEDED

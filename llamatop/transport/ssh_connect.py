"""Connecting to a machine through its hops: sockets, key exchange, host keys, logging in.

Runs in a thread of its own and blocks; closing the Link from elsewhere ends it at once.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from typing import IO, Final, cast

import paramiko

from llamatop.errors import NoAnswer, Unreachable

from .host_keys import KnownHost, check, known_host
from .ssh_auth import authenticate
from .ssh_config import HostConfig, SshOptions, route
from .ssh_link import Hop, Link, SshTransport
from .ssh_stream import Stream
from .turns import Turns

CONNECT_TIMEOUT_SECONDS: Final = 10.0
AUTH_TIMEOUT_SECONDS: Final = 20.0
# Every sshd greets first; what stands between may wait for us to.
ANSWER_SECONDS: Final = 2.0
USER_TIMEOUT_MILLISECONDS: Final = 10_000
ALIASES: Final = {"curve25519-sha256": "curve25519-sha256@libssh.org"}
RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")


def connect(node: str, destination: str, options: SshOptions, link: Link, turns: Turns) -> None:
    """Fill `link` with every hop to `destination`; raises Unreachable or HostKeyFault.

    A turn is held while this side has work to do, and not while a machine has yet to answer.
    """
    with turns.turn():
        hops = route(node, destination, options)
    for number, config in enumerate(hops):
        at = "" if number == len(hops) - 1 else f"jump host {config.alias}, "
        limit = config.seconds("connecttimeout") or CONNECT_TIMEOUT_SECONDS
        proxy_errors: IO[bytes] | None = None
        if link.hops:
            stream = _through(node, at, link.hops[-1], config, limit)
        elif command := config.proxy_command():
            if config.first("proxyusefdpass") == "yes":
                raise Unreachable(
                    node,
                    f"its ProxyCommand `{command}` hands over a descriptor (ProxyUseFdpass), "
                    "which llamatop cannot take",
                    "use a ProxyCommand that carries the bytes itself, or ProxyJump",
                )
            stream, proxy_errors = _proxied(node, command, link)
        else:
            stream = _direct(node, at, config, limit, link)
        link.add_stream(stream)
        stream.await_answer(min(limit, ANSWER_SECONDS))
        with turns.turn(number + 1):
            transport = _greet(node, at, config, stream, limit, proxy_errors)
            link.hops.append(Hop(config, transport, stream))
            if link.closed:
                raise Unreachable(node, "the connection was given up")
            authenticate(node, at, config, transport)
        stream.rest()


def _direct(node: str, at: str, config: HostConfig, limit: float, link: Link) -> Stream:
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(
        config.first("addressfamily"), socket.AF_UNSPEC
    )
    try:
        found = socket.getaddrinfo(config.host, config.port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise Unreachable(
            node,
            f"{at}the name {config.host!r} does not resolve ({reason})",
            f"check how it is spelt, or give {config.alias} a HostName in the ssh configuration",
        ) from None
    deadline = time.monotonic() + limit
    failures: list[OSError] = []
    for number, (kind, _, protocol, _, address) in enumerate(found):
        patience = (deadline - time.monotonic()) / (len(found) - number)
        if patience <= 0 or link.closed:
            break
        raw = socket.socket(kind, socket.SOCK_STREAM, protocol)
        stream = Stream(raw)
        link.add_stream(stream)
        try:
            raw.settimeout(patience)
            if source := config.first("bindaddress"):
                raw.bind((source, 0))
            raw.connect(address)
        except OSError as error:
            stream.close()
            failures.append(error)
            continue
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MILLISECONDS)
        return stream
    # A jump host that is away says nothing of the machine behind it.
    fault = NoAnswer if not at and any(map(_silence, failures)) else Unreachable
    raise fault(node, *_no_connection(at, config, failures, limit))


def _silence(error: OSError) -> bool:
    """Whether it is the other machine that does not answer, not this one that cannot ask."""
    gone = (errno.EHOSTUNREACH, errno.EHOSTDOWN)
    return isinstance(error, TimeoutError | ConnectionRefusedError) or error.errno in gone


def _no_connection(
    at: str, config: HostConfig, failures: list[OSError], limit: float
) -> tuple[str, str]:
    if any(isinstance(error, ConnectionRefusedError) for error in failures):
        return (
            f"{at}{config.place} refuses the connection",
            "start sshd there, or correct the port",
        )
    if not failures or all(isinstance(error, TimeoutError) for error in failures):
        return (
            f"{at}{config.place} did not answer within {limit:g} s",
            "check that the machine is up and that no firewall drops the connection",
        )
    reason = next(e.strerror or str(e) for e in failures if not isinstance(e, TimeoutError))
    return f"{at}{config.place} cannot be reached ({reason})", "check the route and the address"


def _through(node: str, at: str, before: Hop, config: HostConfig, limit: float) -> Stream:
    """A connection that the hop before makes for us, as `ssh -W` asks for it."""
    jump = before.config
    try:
        channel = before.transport.open_channel(
            "direct-tcpip", (config.host, config.port), ("127.0.0.1", 0), timeout=limit
        )
    except paramiko.ChannelException as error:
        if error.code == 1:
            raise Unreachable(
                node,
                f"jump host {jump.alias} ({jump.place}) forbids the way on to {config.place}",
                "allow it there: AllowTcpForwarding and PermitOpen in its sshd_config",
            ) from None
        kind = NoAnswer if error.code == 2 and not at else Unreachable
        raise kind(
            node,
            f"{at}{config.place} cannot be reached from jump host {jump.alias} "
            f"({before.transport.refusal or error.text or 'no reason given'})",
            "start sshd there, or correct host and port as the jump host sees them",
        ) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        # It lives and still waits for an answer from there.
        kind = NoAnswer if before.transport.is_active() and not at else Unreachable
        raise kind(
            node,
            f"jump host {jump.alias} ({jump.place}) gave no way on to {config.place}: "
            f"{str(error) or 'the connection was cut'}",
            "check that it reaches the machine",
        ) from None
    return Stream(channel)


def _proxied(node: str, command: str, link: Link) -> tuple[Stream, IO[bytes]]:
    """ProxyCommand, its standard streams on one socket so that it can be polled."""
    if link.closed:
        raise Unreachable(node, "the connection was given up")
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when the greeting is over
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        link.proxy = subprocess.Popen(
            [shell, "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise Unreachable(
            node, f"its ProxyCommand `{command}` does not start ({error.strerror})"
        ) from None
    finally:
        theirs.close()
    return Stream(ours), errors


def _greet(
    node: str,
    at: str,
    config: HostConfig,
    stream: Stream,
    limit: float,
    proxy_errors: IO[bytes] | None,
) -> SshTransport:
    """Exchange keys and check who answers; nothing secret is sent before that."""
    known = known_host(config)
    # a Stream has all that paramiko's documentation asks of a socket-like object
    transport = SshTransport(cast(socket.socket, stream))
    stream.owner = transport
    transport.daemon = True
    transport.banner_timeout = limit
    transport.handshake_timeout = limit
    transport.auth_timeout = AUTH_TIMEOUT_SECONDS
    try:
        _choose_algorithms(node, config, known, transport)
        transport.start_client(timeout=2 * limit)
        if not transport.initial_kex_done:
            raise paramiko.SSHException("key exchange took too long")
        key = transport.get_remote_server_key()
        check(node, at, known, key.get_name(), key.asbytes())
    except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
        transport.close()
        mute = not stream.head and isinstance(error.__context__, TimeoutError)
        kind = NoAnswer if mute and not at and proxy_errors is None else Unreachable
        raise kind(
            node, *_no_greeting(at, config, stream, transport, error, limit, proxy_errors)
        ) from error
    except BaseException:
        transport.close()
        if transport.ident is None:
            # Its thread, which would have closed what is underneath, never began.
            stream.owner = threading.current_thread()
            stream.close()
        raise
    finally:
        if proxy_errors is not None:
            proxy_errors.close()
    return transport


def _no_greeting(
    at: str,
    config: HostConfig,
    stream: Stream,
    transport: SshTransport,
    error: Exception,
    limit: float,
    proxy_errors: IO[bytes] | None,
) -> tuple[str, str]:
    head = stream.head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    printable = "".join(c if c.isprintable() else "·" for c in head)[:80]
    if proxy_errors is not None and not stream.head:
        proxy_errors.seek(0)
        words = proxy_errors.read(2000).decode("utf-8", "replace").strip().splitlines()
        last = "".join(c for c in words[-1] if c.isprintable()) if words else "no reason given"
        return (
            f"its ProxyCommand `{config.proxy_command()}` made no connection ({last})",
            f"try it by hand: {shlex.join(config.ssh_argv())}",
        )
    if not stream.head and isinstance(error.__context__, TimeoutError):
        return (
            f"{at}{config.place} accepts the connection but says nothing within {limit:g} s",
            "check that sshd, and not something else, listens on that port",
        )
    if not stream.head:
        return (
            f"{at}{config.place} closed the connection without a word",
            "sshd may be starting, overloaded (MaxStartups) or forbid this address: see its log",
        )
    if b"SSH-" not in stream.head:
        return (
            f"{at}{config.place} does not speak ssh (it says {printable!r})",
            "correct the port",
        )
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return (
            f"{at}{config.place} and llamatop have no way to talk in common ({error})",
            "bring sshd there up to date, or allow what llamatop can do",
        )
    words = [transport.farewell or str(error) or "the connection was cut"]
    return (f"{at}{config.place} broke off the key exchange ({words[0]})", "see sshd's log there")


def _choose_algorithms(
    node: str, config: HostConfig, known: KnownHost, transport: SshTransport
) -> None:
    """What the configuration allows and paramiko can do; known host key types come first."""
    chosen = transport.get_security_options()

    def allowed(option: str, key: str, able: tuple[str, ...]) -> tuple[str, ...]:
        wanted = [ALIASES.get(name, name) for name in config.algorithms(key)]
        both = tuple(dict.fromkeys(name for name in wanted if name in able))
        if both or not wanted:
            return both or able
        raise Unreachable(
            node,
            f"the ssh configuration allows {config.alias} only {option} that llamatop cannot do "
            f"({', '.join(wanted[:4])})",
            f"add one of {', '.join(able[:4])}",
        )

    chosen.ciphers = allowed("Ciphers", "ciphers", tuple(chosen.ciphers))
    chosen.digests = allowed("MACs", "macs", tuple(chosen.digests))
    chosen.kex = allowed("KexAlgorithms", "kexalgorithms", tuple(chosen.kex))
    kinds = allowed("HostKeyAlgorithms", "hostkeyalgorithms", tuple(chosen.key_types))
    trusted = {
        name for kind in known.kinds for name in (RSA_SIGNATURES if kind == "ssh-rsa" else [kind])
    }
    chosen.key_types = tuple(sorted(kinds, key=lambda name: name not in trusted))

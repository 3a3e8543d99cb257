"""Proving who one is: the agent's keys, the key files, in the order ssh offers them."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

import paramiko
from msgspec import Struct, field
from paramiko.agent import AgentSSH

from llamatop.errors import Unreachable

from . import key_files
from .host_keys import sha256_fingerprint
from .ssh_config import HostConfig
from .ssh_link import SshTransport

AGENT_TIMEOUT_SECONDS: Final = 20.0


class _Connecting(Protocol):
    def _connect(self, connection: socket.socket) -> None: ...

    def _close(self) -> None: ...


class Agent(AgentSSH):
    """The agent at one socket; raises OSError or SSHException where it does not answer."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(AGENT_TIMEOUT_SECONDS)
        try:
            connection.connect(path)
            cast(_Connecting, self)._connect(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Let go of the socket."""
        cast(_Connecting, self)._close()


class Tried(Struct):
    """What was offered and what could not be, for the sentence when nothing was accepted."""

    offered: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    agent: str = ""


def authenticate(node: str, at: str, config: HostConfig, transport: SshTransport) -> None:
    """Log in or raise Unreachable with everything that was tried; `at` names the hop, if any."""
    tried = Tried()
    who = f"{at}{config.user}@{config.place}"
    try:
        accepted = _none(config, transport)
        if accepted is None:
            return
        if "publickey" not in accepted:
            raise Unreachable(
                node,
                f"{who} takes no keys (it asks for {' or '.join(accepted) or 'nothing known'})",
                "llamatop never asks for passwords: allow PubkeyAuthentication in its sshd_config",
            )
        if config.first("pubkeyauthentication", "yes") in ("no", "false"):
            raise Unreachable(
                node,
                f"the ssh configuration forbids keys for {who}",
                "set PubkeyAuthentication yes for it",
            )
        for label, key in _keys(config, tried):
            tried.offered.append(label)
            try:
                more = transport.auth_publickey(config.user, key)
            except paramiko.AuthenticationException as error:
                if not transport.is_active():
                    raise
                if str(error) == "Authentication timeout.":
                    raise Unreachable(
                        node,
                        f"{who} did not say within {transport.auth_timeout:g} s whether it "
                        f"accepts {label}",
                        "try again, or look at its load",
                    ) from None
                continue
            if not more:
                return
            raise Unreachable(
                node,
                f"{who} accepts {label} but asks for {' and '.join(more)} as well",
                "llamatop can only use keys: change AuthenticationMethods in its sshd_config",
            )
    except paramiko.SSHException as error:
        raise Unreachable(node, *_cut(config, who, tried, transport, error)) from error
    except (OSError, EOFError, ValueError) as error:
        raise Unreachable(
            node, f"logging in to {who} failed: {str(error) or type(error).__name__}"
        ) from error
    raise Unreachable(node, *_refused(config, who, tried))


def _none(config: HostConfig, transport: SshTransport) -> list[str] | None:
    """The methods the server takes, None where it lets one in without any."""
    try:
        transport.auth_none(config.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    return None


def _cut(
    config: HostConfig, who: str, tried: Tried, transport: SshTransport, error: Exception
) -> tuple[str, str]:
    count = len(tried.offered)
    if "too many" in transport.farewell.lower() or (count >= 5 and not transport.is_active()):
        return (
            f"{who} closed the connection after {count} wrong keys",
            f"name the right one: IdentityFile and IdentitiesOnly yes for {config.alias} "
            "in the ssh configuration",
        )
    words = transport.farewell or str(error) or type(error).__name__
    return (
        f"logging in to {who} failed: {words}",
        f"try it by hand: {shlex.join(config.ssh_argv())}",
    )


def _refused(config: HostConfig, who: str, tried: Tried) -> tuple[str, str]:
    problems = [*tried.unusable]
    if tried.locked:
        problems.insert(0, f"{tried.locked[0]} needs its passphrase, and no agent holds it")
    if tried.agent:
        problems.append(tried.agent)
    why = f"; {'; '.join(problems[:3])}" if problems else ""
    if tried.offered:
        shown = ", ".join(tried.offered[:6]) + (" …" if len(tried.offered) > 6 else "")
        text = f"{who} refused every key ({shown}){why}"
    else:
        text = f"there is no key to offer to {who}{why}"
    if tried.locked:
        return text, f"hand the key to an agent: ssh-add {tried.locked[0]}"
    return text, (
        "see which key it wants with -v, or add yours to ~/.ssh/authorized_keys there: "
        f"{shlex.join(config.ssh_argv())}"
    )


def _keys(config: HostConfig, tried: Tried) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys in ssh's order: the agent's that are configured, its others, then the files."""
    files = [Path(config.expand(name)) for name in config.values.get("identityfile", ())]
    files = [file for file in files if str(file) != "none"]
    only = config.first("identitiesonly", "no") in ("yes", "true")
    certificates = [Path(config.expand(name)) for name in config.values.get("certificatefile", ())]
    public = {blob: file for file in files if (blob := key_files.public_blob(file)) is not None}
    with contextlib.ExitStack() as stack:
        held = {key.asbytes(): key for key in _agent_keys(config, tried, stack)}
        meant = [blob for blob in public if blob in held]
        others = [] if only else [blob for blob in held if blob not in public]
        for blob in [*meant, *others]:
            key = held[blob]
            yield f"agent's {key.get_name()} {sha256_fingerprint(blob)}", key
        for file in files:
            if key_files.public_blob(file) in held:
                continue
            loaded = _load(file, certificates, tried)
            if loaded is not None and loaded.asbytes() not in held:
                yield str(file), loaded


def _agent_keys(
    config: HostConfig, tried: Tried, stack: contextlib.ExitStack
) -> tuple[paramiko.AgentKey, ...]:
    named = (config.values.get("identityagent") or ["SSH_AUTH_SOCK"])[0]
    if named == "none":
        return ()
    if named == "SSH_AUTH_SOCK":
        path = os.environ.get("SSH_AUTH_SOCK", "")
    elif named.startswith("$") and not named.startswith("${"):
        path = os.environ.get(named[1:], "")
    else:
        path = config.expand(named)
    if not path:
        return ()
    try:
        agent = Agent(path)
    except (OSError, paramiko.SSHException, ValueError) as error:
        tried.agent = f"the agent at {path} does not answer ({error})"
        return ()
    stack.callback(agent.close)
    return agent.get_keys()


def _load(file: Path, certificates: Sequence[Path], tried: Tried) -> paramiko.PKey | None:
    """The key in a file, None (and a note) where it cannot be used."""
    if key_files.is_public(file):
        return None
    try:
        return key_files.load(file, certificates)
    except key_files.Locked:
        tried.locked.append(file)
    except key_files.Unusable as reason:
        tried.unusable.append(f"{file} {reason}")
    except FileNotFoundError:
        if file.parent != Path.home() / ".ssh" or not file.name.startswith("id_"):
            tried.unusable.append(f"{file} does not exist")
    return None

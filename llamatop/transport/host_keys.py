"""known_hosts as ssh reads it: who a host must be, and the command that mends a mismatch."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import shlex
from collections.abc import Iterator, Sequence
from fnmatch import translate
from pathlib import Path

from msgspec import Struct

from llamatop.errors import HostKeyFault

from .ssh_config import HostConfig


class KnownKey(Struct, frozen=True):
    """One line of a known_hosts file that speaks of this host under `name`."""

    file: Path
    line: int
    name: str
    marker: str
    kind: str
    blob: bytes

    @property
    def place(self) -> str:
        """`file:line` for a sentence."""
        return f"{self.file}:{self.line}"


class KnownHost(Struct, frozen=True):
    """Everything that known_hosts says of one host; `names` are what it was looked up as."""

    config: HostConfig
    names: tuple[str, ...]
    keys: tuple[KnownKey, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """The key types that are trusted for it, in file order."""
        return list(dict.fromkeys(key.kind for key in self.keys if not key.marker))


def known_host(config: HostConfig) -> KnownHost:
    """Read the known_hosts files for one host; a missing file is an empty one."""
    alias = config.first("hostkeyalias")
    if alias:
        names: tuple[str, ...] = (alias.lower(),)
    elif config.port == 22:
        names = (config.host,)
    else:
        # as ssh does, where the port has no key of its own the host's key is good for it
        names = (f"[{config.host}]:{config.port}", config.host)
    keys: list[KnownKey] = []
    unreadable: list[str] = []
    for file in config.known_hosts_files:
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"{file}: {error.strerror}")
            continue
        keys += _matching(file, lines, names)
    if any(key.name == names[0] and not key.marker for key in keys):
        keys = [key for key in keys if key.name == names[0] or key.marker == "@revoked"]
    return KnownHost(config, names, tuple(keys), tuple(unreadable))


def check(node: str, at: str, known: KnownHost, kind: str, blob: bytes) -> None:
    """Raise HostKeyFault unless this very key is known; `at` says which hop it is, if any."""
    config = known.config
    fingerprint = f"{_short(kind)} {sha256_fingerprint(blob)}"
    exact = [key for key in known.keys if key.blob == blob]
    for key in exact:
        if key.marker == "@revoked":
            raise HostKeyFault(
                node,
                f"{at}{config.place} shows the key {fingerprint}, which {key.place} has revoked",
                "somebody may be listening in: ask who runs it for its new key",
            )
    if any(not key.marker for key in exact):
        return
    trusted = [key for key in known.keys if not key.marker]
    if trusted:
        raise HostKeyFault(
            node,
            f"the host key of {at}{config.place} has changed: it shows {fingerprint}, but "
            f"{trusted[0].place} has {_short(trusted[0].kind)} "
            f"{sha256_fingerprint(trusted[0].blob)}",
            f"if that is expected, forget the old key and accept the new one: "
            f"{_forget(known, trusted)} && {_accept(config)}",
        )
    authority = next((key for key in known.keys if key.marker == "@cert-authority"), None)
    if authority:
        raise HostKeyFault(
            node,
            f"{at}{config.place} is known by a certificate authority alone ({authority.place}), "
            f"which llamatop cannot check, and shows {fingerprint}",
            "add its own key to known_hosts, after: "
            f"{shlex.join([*config.ssh_argv(), 'cat /etc/ssh/ssh_host_*_key.pub'])}",
        )
    hint = f" ({known.unreadable[0]})" if known.unreadable else ""
    raise HostKeyFault(
        node,
        f"the host key of {at}{config.place} is not known{hint}: it shows {fingerprint}",
        f"compare it and accept it once: {_accept(config)}",
    )


def sha256_fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def _short(kind: str) -> str:
    return kind.removeprefix("ssh-").removeprefix("ecdsa-sha2-").upper()


def _accept(config: HostConfig) -> str:
    return shlex.join([*config.ssh_argv("-o", "StrictHostKeyChecking=ask"), "true"])


def _forget(known: KnownHost, keys: Sequence[KnownKey]) -> str:
    commands = [
        shlex.join(["ssh-keygen", "-R", name, "-f", str(file)])
        for file in dict.fromkeys(key.file for key in keys)
        for name in dict.fromkeys(key.name for key in keys if key.file == file)
    ]
    return " ; ".join(commands)


def _matching(file: Path, lines: Sequence[bytes], names: Sequence[str]) -> Iterator[KnownKey]:
    for number, raw in enumerate(lines, 1):
        words = raw.decode("utf-8", "replace").split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#"):
            continue
        patterns, kind, encoded = words[:3]
        name = next((name for name in names if _matches(patterns, name)), None)
        if name is None:
            continue
        try:
            blob = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        yield KnownKey(file, number, name, marker, kind, blob)


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in patterns[3:].split("|"))
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)
    hit = False
    for pattern in patterns.lower().split(","):
        if pattern.startswith("!"):
            if _glob(pattern[1:], name):
                return False
        elif _glob(pattern, name):
            hit = True
    return hit


def _glob(pattern: str, name: str) -> bool:
    # only * and ? are special in known_hosts: [host]:port is meant as it stands
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    return re.match(translate(pattern.replace("[", "[[]")), name) is not None

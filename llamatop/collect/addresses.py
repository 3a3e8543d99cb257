"""Addresses as nginx and ssh write them, and which node each one means."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from msgspec import Struct


class Address(Struct, frozen=True):
    """A host in lower case without brackets and a port; an empty host is every interface."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether the machine that uses it means itself."""
        return is_loopback(self.host)


@lru_cache(maxsize=4096)
def parse(text: str, default_port: int | None = None) -> Address | None:
    """`host:port`, `[v6]:port`, `:port`, `port` or `host` (with a default port); None otherwise."""
    text = text.strip()
    if text.startswith("unix:") or "/" in text:
        return None
    if text.isascii() and text.isdecimal() and default_port is None:
        host, port = "", text
    elif text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if not port:
        return None if default_port is None else Address(host.lower(), default_port)
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        return None
    return Address("" if host == "*" else host.lower(), int(port))


def of_url(url: str) -> Address | None:
    """The host and port of a URL, the scheme's own port where it has none; None without a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return Address(parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80))


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Whether `host` is this machine to itself: localhost, 127.0.0.0/8, ::1, or every interface."""
    if host in ("", "*", "localhost", "ip6-localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def ssh_host(destination: str) -> str:
    """The host of `user@host`, `host:port` or `ssh://user@host:port`, in lower case."""
    host = destination.removeprefix("ssh://").partition("/")[0].rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.lower()


def node_of(host: str, seen_from: str, known: Mapping[str, frozenset[str]]) -> str | None:
    """The node that `host` means to the node `seen_from`; None where none or several are.

    `known` holds each node's names and addresses in lower case.
    """
    if is_loopback(host):
        return seen_from
    found = [node for node, addresses in known.items() if host in addresses]
    return found[0] if len(found) == 1 else None

"""The shapes of single values in a cluster file: a complaint each, or None where it is fine."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

SHORTEST_INTERVAL_SECONDS: Final = 0.1
LONGEST_INTERVAL_SECONDS: Final = 3600.0

Fault = Callable[[str], str | None]


def shown(value: object, limit: int = 60) -> str:
    """A value for a sentence: printable, on one line, not endless."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def text_fault(value: str) -> str | None:
    """Nothing that a terminal would act upon."""
    if not value.strip():
        return "is empty"
    if not value.isprintable():
        return f"holds control characters ({shown(value)})"
    return None


def name_fault(value: str) -> str | None:
    """A node's name, which stands before the / of its workers' names."""
    fault = text_fault(value)
    if fault:
        return fault
    found = re.search(r"[/*?\[\]]", value)
    if found:
        range_ = "; a range of numbers is [01-64]" if found[0] in "[]" else ""
        return f"holds {found[0]!r}, which has a meaning in worker names ({shown(value)}){range_}"
    if value.startswith("-"):
        return f"begins with '-', which the command line takes for an option ({shown(value)})"
    if value != value.strip():
        return f"begins or ends with a space ({shown(value)})"
    return None


def port_fault(text: str) -> str | None:
    """A TCP port."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        return f"{shown(text)} is no port (1 to 65535)"
    return None


def split_ssh(value: str) -> tuple[str, str, str]:
    """User, host and port of what is typed after ssh: user@host:port, ssh://…, [v6]:port."""
    rest = value.removeprefix("ssh://").rstrip("/") if value.startswith("ssh://") else value
    user, _, rest = rest.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest)
    if bracketed:
        return user, bracketed[1], bracketed[2] or ""
    if rest.count(":") == 1:
        host, _, port = rest.partition(":")
        return user, host, port or "?"
    return user, rest, ""


def ssh_fault(value: str) -> str | None:
    """A host as one would type it after ssh."""
    fault = text_fault(value)
    if fault:
        return fault
    if value.startswith("-"):
        return f"begins with '-', which ssh takes for an option ({shown(value)})"
    if re.search(r"\s", value):
        return f"holds a space: write one host, without options ({shown(value)})"
    if re.match(r"(?!ssh:)[a-z]+://", value):
        return f"is no ssh host ({shown(value)}): write HTTP addresses as url"
    user, host, port = split_ssh(value)
    if not re.fullmatch(r"[^\s/\\'\"`$;&|<>(){}*?\[\]]+", host) or user.startswith("-"):
        return f"is no ssh host ({shown(value)}): write host, user@host or user@host:port"
    return port_fault(port) if port else None


def url_fault(value: str) -> str | None:
    """An http or https address without secrets in it."""
    fault = text_fault(value)
    if fault:
        return fault
    if re.search(r"\s", value):
        return "holds a space"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "is no address: write http://host:port"
    if parts.username is not None or parts.password is not None:
        return "holds a user or password: use api_key_env for a key"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"is no address ({shown(value)}): write http://host:port"
    if parts.query or parts.fragment:
        return "holds a query: write http://host:port alone"
    return port_fault(str(port)) if port is not None else None


def webhook_fault(value: str) -> str | None:
    """An http or https address to POST to; it may hold a secret, so it is never repeated."""
    if not value.isprintable() or re.search(r"\s", value):
        return "holds a space or a control character"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "is no address: write https://host/path"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no address: write https://host/path"
    return port_fault(str(port)) if port is not None else None


def member_fault(value: str) -> str | None:
    """The address in a server line of nginx: host:port, host or unix:path."""
    fault = text_fault(value)
    if fault:
        return fault
    if "://" in value:
        return f"has a scheme ({shown(value)}): write the address as nginx has it, host:port"
    if re.search(r"[\s;{}'\"#]", value):
        return f"is no server address ({shown(value)}): write host:port as nginx has it"
    if value.startswith("unix:"):
        return None
    _, host, port = split_ssh(value)
    if not host:
        return f"has no host ({shown(value)}): write host:port"
    return port_fault(port) if port else None


def variable_fault(value: str) -> str | None:
    """The name of a variable; what could be a key is never repeated."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
        return "is no variable name: write the name of a variable that holds the key, never the key"
    if len(value) >= 20 and "_" not in value and re.search(r"[0-9]", value):
        return "looks like the key itself: write the name of a variable that holds it"
    return None


def unit_fault(value: str) -> str | None:
    """The name of a systemd unit, with or without .service."""
    fault = text_fault(value)
    if fault:
        return fault
    if re.search(r"[\s/*?]", value):
        return f"is no unit name ({shown(value)})"
    return None


def kind_fault(value: str) -> str | None:
    """The kind of balancer; there is one so far."""
    return None if value == "nginx" else f'{shown(value)} is not known: write "nginx"'


def upstream_fault(value: str) -> str | None:
    """The name of an nginx upstream."""
    fault = text_fault(value)
    if fault:
        return fault
    if re.search(r"[\s;{}'\"#]", value):
        return f"is no upstream name ({shown(value)})"
    return None


def interval_fault(value: float) -> str | None:
    """Seconds between two ticks."""
    if not SHORTEST_INTERVAL_SECONDS <= value <= LONGEST_INTERVAL_SECONDS:
        return (
            f"is {shown(value)}: write seconds from {SHORTEST_INTERVAL_SECONDS:g} "
            f"to {LONGEST_INTERVAL_SECONDS:g}"
        )
    return None


def with_service(unit: str) -> str:
    """A unit's whole name."""
    return unit if unit.endswith(".service") else f"{unit}.service"

"""What the operator wrote: the cluster file, or the hosts named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct


class Worker(Struct, frozen=True):
    """A worker that discovery needs help with.

    `unit` is the unit's name with `.service`; `url` is as seen from the node; `member` is its
    server line on the balancer; `api_key_env` names a variable where llamatop runs.
    """

    unit: str
    url: str | None = None
    member: str | None = None
    api_key_env: str | None = None


class Node(Struct, frozen=True):
    """A machine: `ssh` is what one would type after ssh, "local" is this machine, None is none.

    With `ssh` None the node is read through `url` by HTTP alone. Empty `units` means every unit
    whose ExecStart runs a known engine; otherwise shell globs over unit names.
    """

    name: str
    ssh: str | None = None
    url: str | None = None
    units: tuple[str, ...] = ()
    workers: tuple[Worker, ...] = ()


class Balancer(Struct, frozen=True):
    """Where the upstream lives: the node that runs nginx and the upstream's name.

    `test` and `reload` are commands, run there as they are written, in place of `nginx -t` and
    `systemctl reload`; empty where these will do.
    """

    node: str
    upstream: str
    kind: str = "nginx"
    test: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()


class Silence(Struct, frozen=True):
    """Findings of `rule` that the operator does not want to hear of, at places that match a glob.

    `reason` is for people and changes nothing.
    """

    rule: str
    place: str = "*"
    reason: str | None = None


class Alerts(Struct, frozen=True):
    """Who hears of findings that come and go, besides the events and the bell.

    `command` gets each as JSON on its standard input; `webhook` as the body of a POST: its address
    may be a secret.
    """

    command: tuple[str, ...] = ()
    webhook: str | None = None

    def __repr__(self) -> str:
        return f"Alerts(command={self.command!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """As above: rich, which shows what a crash left, asks the struct's own otherwise."""
        return [("command", self.command)]


class Cluster(Struct, frozen=True):
    """Everything the operator declared; `path` is the file it came from, None without one."""

    name: str
    nodes: tuple[Node, ...]
    balancer: Balancer | None = None
    interval_seconds: float = 1.0
    ssh_config: Path | None = None
    known_hosts: Path | None = None
    path: Path | None = None
    silences: tuple[Silence, ...] = ()
    alerts: Alerts | None = None

    def node(self, name: str) -> Node:
        """The node called `name`; raises KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

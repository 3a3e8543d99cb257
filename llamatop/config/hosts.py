"""The hosts named on the command line -> a Cluster, without any file."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from llamatop.errors import ConfigError, Problem
from llamatop.model.declared import Cluster, Node

from . import checks


def from_hosts(hosts: Sequence[str]) -> Cluster:
    """One node a host, named by its host part: what one types after ssh, "local", or http://….

    Raises ConfigError with every host that cannot be one.
    """
    problems: list[Problem] = []
    nodes: dict[str, Node] = {}
    for host in hosts:
        by_http = host.startswith(("http://", "https://"))
        fault = checks.url_fault(host) if by_http else checks.ssh_fault(host)
        part = "" if fault else _host_part(host, by_http)
        fault = fault or checks.name_fault(part)
        if fault:
            problems.append(Problem("command line", None, "HOST", fault))
            continue
        name = _distinct(part, nodes)
        nodes[name] = Node(name=name, ssh=None if by_http else host, url=host if by_http else None)
    if not hosts:
        problems.append(Problem("command line", None, "HOST", "there is none: name at least one"))
    if problems:
        raise ConfigError(problems)
    names = list(nodes)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Cluster(name=", ".join(names[:3]) + more, nodes=tuple(nodes.values()))


def _host_part(host: str, by_http: bool) -> str:
    if by_http:
        parts = urlsplit(host)
        return parts.netloc
    return checks.split_ssh(host)[1]


def _distinct(name: str, taken: dict[str, Node]) -> str:
    if name not in taken:
        return name
    return next(other for n in range(2, 10**6) if (other := f"{name}-{n}") not in taken)

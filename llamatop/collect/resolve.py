"""The names and addresses that each node goes by, for telling where a tunnel or a member leads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from llamatop.collect.addresses import is_loopback, of_url, ssh_host
from llamatop.errors import Unreachable
from llamatop.model.declared import Cluster, Node

AT_ONCE = 8


def names(node: Node) -> frozenset[str]:
    """What the cluster file calls the node: its name, its ssh host, its URL's host."""
    found = {node.name.lower()}
    if node.ssh not in (None, "local"):
        found.add(ssh_host(node.ssh))
    if node.url is not None and (url := of_url(node.url)) is not None:
        found.add(url.host)
    return frozenset(name for name in found if not is_loopback(name))


async def addresses(cluster: Cluster) -> Mapping[str, frozenset[str]]:
    """The same with what `ssh -G` calls the host and what these names resolve to, by node.

    Never raises: a name that does not resolve adds nothing. Loopback addresses are left out,
    since they mean another machine wherever they are used.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(node: Node) -> frozenset[str]:
        async with limit:
            known = set(names(node))
            if node.ssh not in (None, "local"):
                hostname = await asyncio.to_thread(_ssh_hostname, cluster, node)
                if hostname:
                    known.add(hostname.lower())
            for name in sorted(known):
                known |= await _resolved(name)
            return frozenset(name for name in known if not is_loopback(name))

    found = await asyncio.gather(*(one(node) for node in cluster.nodes))
    return {node.name: known for node, known in zip(cluster.nodes, found, strict=True)}


def _ssh_hostname(cluster: Cluster, node: Node) -> str | None:
    from llamatop.transport.ssh_config import SshOptions, resolve

    try:
        config = resolve(
            node.name, node.ssh or "", SshOptions(cluster.ssh_config, cluster.known_hosts)
        )
    except Unreachable:
        return None
    return config.first("hostname") or None


async def _resolved(name: str) -> set[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(5.0):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return set()
    return {str(address[0]).lower() for *_, address in found}

"""The names and addresses that each node goes by, for telling where a tunnel or a member leads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

from llamatop.collect.addresses import is_loopback, of_url, ssh_host
from llamatop.model.declared import Cluster, Node
from llamatop.transport.threads import in_thread

AT_ONCE = 4
PATIENCE_SECONDS = 5.0
# Whoever connects may wait for its turn, and then for ssh.
SSH_PATIENCE_SECONDS = 15.0

Found = TypeVar("Found")


def names(node: Node) -> frozenset[str]:
    """What the cluster file calls the node: its name, its ssh host, its URL's host."""
    found = {node.name.lower()}
    if node.ssh not in (None, "local"):
        found.add(ssh_host(node.ssh))
    if node.url is not None and (url := of_url(node.url)) is not None:
        found.add(url.host)
    return frozenset(name for name in found if not is_loopback(name))


async def addresses(cluster: Cluster) -> AsyncGenerator[tuple[str, frozenset[str]], None]:
    """Each node's name with these and what `ssh -G` calls its host and they all resolve to.

    In the order in which they are found; a name that does not resolve adds nothing. Loopback
    addresses are left out, since they mean another machine wherever they are used.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(node: Node) -> tuple[str, frozenset[str]]:
        async with limit:
            known = set(names(node))
            if node.ssh not in (None, "local"):
                hostname = await in_thread(partial(_ssh_hostname, cluster, node))
                if hostname:
                    known.add(hostname.lower())
            for name in sorted(known):
                known |= await _patiently(partial(_resolved, name), frozenset())
            return node.name, frozenset(name for name in known if not is_loopback(name))

    asked = [asyncio.create_task(one(node)) for node in cluster.nodes]
    try:
        for answer in asyncio.as_completed(asked):
            yield await answer
    finally:
        for task in asked:
            task.cancel()


async def _patiently(ask: Callable[[], Found], otherwise: Found) -> Found:
    """What `ask` finds in a thread of its own; a resolver that hangs is not waited for."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await in_thread(ask)
    except TimeoutError:
        return otherwise


def _ssh_hostname(cluster: Cluster, node: Node) -> str | None:
    """What whoever connects to the node has asked ssh already."""
    from llamatop.transport.ssh_config import SshOptions, answered

    options = SshOptions(cluster.ssh_config, cluster.known_hosts)
    config = answered(node.ssh or "", options, SSH_PATIENCE_SECONDS)
    return None if config is None else config.first("hostname") or None


def _resolved(name: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[0]).lower() for *_, address in found)

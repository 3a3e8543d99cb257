"""What may be done as root on each node of what plans would need, asked once and on purpose."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from llamatop.errors import NodeError
from llamatop.model.cluster import NO_SUDO, ClusterSnapshot, NodeView, Rights

from . import sudoers
from .live import Fleet
from .privilege import Privileges

_AT_ONCE = 8
_PATIENCE_SECONDS = 15.0


async def look(snapshot: ClusterSnapshot, machines: Fleet) -> ClusterSnapshot:
    """The snapshot with the `rights` of its nodes, None where a node does not tell.

    Same as `sudo -n -ll` on each, which sudo notes in its log.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def seen(node: NodeView) -> NodeView:
        if not node.reachable or snapshot.cluster.node(node.name).ssh is None:
            return node
        try:
            async with gate, asyncio.timeout(_PATIENCE_SECONDS):
                return replace(node, rights=await _rights(snapshot, machines, node.name))
        except (NodeError, TimeoutError):
            return node

    return replace(snapshot, nodes=tuple(await asyncio.gather(*map(seen, snapshot.nodes))))


async def _rights(snapshot: ClusterSnapshot, machines: Fleet, node: str) -> Rights:
    privileges = Privileges(machines)
    prefix = await privileges.prefix(node)
    needed = (await sudoers.needs(snapshot, machines, node)).of_plans
    lacking, why = [], ""
    if privileges.by_polkit(node):
        # Of systemctl polkit decides, and tells nobody beforehand.
        lacking = [command for command in needed if command.argv[0] != "systemctl"]
        why = NO_SUDO
    elif prefix:
        lacking, why = await privileges.refused(node, list(needed))
    return Rights(len(needed), tuple(map(str, lacking)), why)

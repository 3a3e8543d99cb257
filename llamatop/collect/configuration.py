"""What each node's probe is told once: how often, which units, the keys, whether nginx counts."""

from __future__ import annotations

from collections.abc import Mapping

from llamatop.model.declared import Cluster, Node
from llamatop.probe import bundle


def configuration(
    cluster: Cluster,
    node: Node,
    secrets: Mapping[tuple[str, str], str],
    searching: bool,
) -> bytes:
    """The first line for the node's probe; keys travel in it and in nothing else.

    `searching` asks every node for nginx, where no file says which one balances.
    """
    workers: dict[str, dict[str, str]] = {}
    for worker in node.workers:
        entry = workers.setdefault(worker.unit, {})
        if worker.url is not None:
            entry["url"] = worker.url
    for (name, unit), key in secrets.items():
        if name == node.name:
            workers.setdefault(unit, {})["key"] = key
    balancer = None
    if cluster.balancer is not None and cluster.balancer.node == node.name:
        balancer = {"kind": cluster.balancer.kind}
    elif searching:
        balancer = {"kind": "nginx"}
    return bundle.configuration(cluster.interval_seconds, node.units, workers, balancer)

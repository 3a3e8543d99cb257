"""The order in which the nodes of a cluster are connected to."""

from __future__ import annotations

from llamatop.model.declared import Cluster


def first_to_last(cluster: Cluster) -> list[str]:
    """Their names, the balancer never the first of several.

    It tells of every member before its first figures are there; any other node is shown sooner.
    """
    names = [node.name for node in cluster.nodes]
    if cluster.balancer is not None and names[:1] == [cluster.balancer.node]:
        names[:2] = reversed(names[:2])
    return names

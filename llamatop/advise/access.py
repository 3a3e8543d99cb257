"""Access to the nodes: host keys, and rights that plans would need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llamatop.advise.finding import Finding, Rule
from llamatop.model.cluster import NO_SUDO, ClusterSnapshot, NodeView

# What the sentences about host keys have in common; other faults of a node are none of this.
_HOST_KEY = re.compile(r"host key of .* (has changed|is not known)|has revoked|known by a cert")

_MOST_SHOWN = 2


def host_key(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A node that is not read because its host key is not the one that is known."""
    for node in snapshot.nodes:
        if not is_host_key(node):
            continue
        seen, _, mend = (node.fault or "").removeprefix(f"{node.name}: ").partition("; ")
        yield Finding(
            "host-key",
            "error",
            node.name,
            seen,
            "llamatop does not talk to a machine that may be another",
            mend or "compare the key with the machine's own, then accept it with ssh",
        )


def is_host_key(node: NodeView) -> bool:
    """Whether a node is not read for its host key."""
    return not node.reachable and bool(node.fault and _HOST_KEY.search(node.fault))


def sudo_rights(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Commands of plans that sudo would refuse, or ask a password for.

    Where it allows none, that is most likely meant so: watching needs none.
    """
    for node in snapshot.nodes:
        rights = node.rights
        if rights is None or not rights.lacking:
            continue
        some = len(rights.lacking) < rights.needed
        shown = ", ".join(f"`{command}`" for command in rights.lacking[:_MOST_SHOWN])
        mend = (
            f"llamatop sudoers --user USER --node {node.name} prints what to put into"
            " /etc/sudoers.d/llamatop there"
        )
        if rights.why == NO_SUDO:
            mend = f"apt-get install sudo there, and {mend}; or connect as root"
        more = len(rights.lacking) - _MOST_SHOWN
        yield Finding(
            "sudo-rights",
            "warning" if some else "info",
            node.name,
            f"{len(rights.lacking)} of {rights.needed} commands that plans would run as root may"
            f" not be ({rights.why}): {shown}{f' and {more} more' if more > 0 else ''}",
            "plans that need them are refused before their first step; watching needs none",
            mend,
        )


RULES: tuple[Rule, ...] = (host_key, sudo_rights)

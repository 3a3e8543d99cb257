"""Access to the nodes: host keys, and rights that plans would need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llamatop.advise.finding import Finding, Rule
from llamatop.model.cluster import ClusterSnapshot

# What the sentences about host keys have in common; other faults of a node are none of this.
_HOST_KEY = re.compile(r"host key of .* (has changed|is not known)|has revoked|known by a cert")


def host_key(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A node that is not read because its host key is not the one that is known."""
    for node in snapshot.nodes:
        if node.reachable or not node.fault or not _HOST_KEY.search(node.fault):
            continue
        seen, _, mend = node.fault.removeprefix(f"{node.name}: ").partition("; ")
        yield Finding(
            "host-key",
            "error",
            node.name,
            seen,
            "llamatop does not talk to a machine that may be another",
            mend or "compare the key with the machine's own, then accept it with ssh",
        )


RULES: tuple[Rule, ...] = (host_key,)

"""A snapshot as one short line, for `watch` without --json."""

from __future__ import annotations

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.figures import number, share
from llamatop.model.text import plain


def summary(snapshot: ClusterSnapshot) -> str:
    """Time, health, totals, and what is wrong, on one line."""
    totals = snapshot.totals
    reached = sum(node.reachable for node in snapshot.nodes)
    words = [
        snapshot.taken_at.strftime("%H:%M:%SZ"),
        "healthy" if snapshot.healthy else "UNHEALTHY",
        f"nodes {reached}/{len(snapshot.nodes)}",
        f"gen {number(totals.generation_tokens_per_second)} tok/s",
        f"prompt {number(totals.prompt_tokens_per_second)} tok/s",
        f"slots {share(totals.slots_busy, totals.slots_total)}",
    ]
    faults = [f"{node.name}: {node.fault}" for node in snapshot.nodes if node.fault]
    faults += [f"{worker.name}: {worker.fault}" for worker in snapshot.workers if worker.fault]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        words.append(plain(faults[0]) + more)
    return "  ".join(words)

"""All rules over 64 nodes x 8 cards x 8 workers x 4 slots, from a snapshot in hand (under 1 s)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from llamatop.advise.doctor import RULES, judge
from tests.screens.clusters import fleet, ill_fleet

NODES, CARDS, ROUNDS = 64, 8, 20


def run() -> Iterator[tuple[str, str]]:
    """The figures."""
    for name, snapshot in (
        ("well", fleet(NODES, CARDS, 40)),
        ("with faults", ill_fleet(NODES, CARDS, 40)),
    ):
        taken = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            diagnosis = judge(snapshot)
            taken.append(time.perf_counter() - begun)
        found = f"{len(diagnosis.findings)} findings"
        yield (
            f"{len(RULES)} rules over a fleet that is {name}",
            f"{1000 * statistics.median(taken):.1f} ms median,"
            f" {1000 * max(taken):.1f} ms at most, {found}",
        )

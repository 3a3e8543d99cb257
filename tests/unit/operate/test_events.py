"""What a plan brings about while it runs is no alarm among the events."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from tests.unit.operate.fakes import FakeCluster


@pytest.mark.parametrize("fails", [False, True])
async def test_the_source_knows_which_plan_runs_until_its_end(tmp_path: Path, fails: bool) -> None:
    cluster = FakeCluster.two_by_two()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("restart", ["node1/gpu0"])
    cluster.workers["node1/gpu0"].fails = "failed" if fails else ""
    told = []
    try:
        async for _ in operator.execute(plan):
            told = list(cluster.expected)
    except PlanFailed:
        assert fails
    assert told == [plan]
    assert cluster.expected == [plan, None]

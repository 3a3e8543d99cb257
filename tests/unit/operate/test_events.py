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


async def test_of_two_plans_the_one_that_still_runs_is_expected(tmp_path: Path) -> None:
    cluster = FakeCluster.two_by_two()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    short = await operator.plan("drain", ["node2/gpu1"])
    long = await operator.plan("restart", ["node1/gpu0"])
    first, second = operator.execute(short), operator.execute(long)
    await anext(first)
    await anext(second)
    async for _ in first:
        pass
    assert cluster.expected[-1] is long
    await second.aclose()
    assert cluster.expected[-1] is None

"""Members of a lost node leave only where the balancer does not reach them either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamatop.operate.vitals import WELL_TICKS
from tests.unit.operate.beside import until
from tests.unit.operate.fakes import FakeCluster
from tests.unit.operate.test_autodrain import GPU1, LINE, draining

GPU0 = "node2/gpu0"
LINES = ("127.0.0.1:37083", LINE)
FOREVER = 10**9


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster.two_by_two()
    # Long enough that no drain waits for what ran there.
    made.lost_seconds = 20.0
    return made


def loses(cluster: FakeCluster, *unreached: str) -> None:
    cluster.silent = {"node2"}
    cluster.unreached = dict.fromkeys(unreached, FOREVER)


def asked(cluster: FakeCluster) -> int:
    return sum(command.startswith("python3 -c") for _, command in cluster.ran)


def out(cluster: FakeCluster) -> list[str]:
    return [address for address, down in cluster.states().items() if down]


async def many_ticks(cluster: FakeCluster) -> None:
    cluster.ticks = [lambda: None] * 200
    await until(lambda: not cluster.ticks)


async def test_they_leave_together_and_come_back_once_well(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    async with draining(cluster, audit):
        loses(cluster, *LINES)
        await until(lambda: len(out(cluster)) == 2)
        assert sorted(out(cluster)) == sorted(LINES)
        await until(lambda: '"end"' in audit.read_text())
        cluster.unreached, cluster.silent = {}, set()
        await until(lambda: not out(cluster))
    plans = [json.loads(line) for line in audit.read_text().splitlines()]
    made = [(one["plan"]["action"], one["plan"]["targets"]) for one in plans if "plan" in one]
    assert made[0] == ("drain", [GPU0, GPU1])
    assert sorted(made[1:]) == [("undrain", [GPU0]), ("undrain", [GPU1])]
    assert plans[0]["plan"]["reason"] == (
        "auto-drain: node2 is lost (no answer for 9 s), and node1 does not reach it either:"
        " 127.0.0.1:37083: [Errno 111] Connection refused"
    )


async def test_who_the_balancer_reaches_stays_whatever_we_see(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with draining(cluster, tmp_path / "a"):
        loses(cluster, LINES[0])
        await until(lambda: out(cluster))
        await many_ticks(cluster)
        assert out(cluster) == [LINES[0]]
    assert asked(cluster) > 2


async def test_one_answer_between_begins_anew(cluster: FakeCluster, tmp_path: Path) -> None:
    async with draining(cluster, tmp_path / "a"):
        cluster.silent = {"node2"}
        cluster.unreached = dict.fromkeys(LINES, 1)
        await until(lambda: asked(cluster) > 8)
        assert not out(cluster)


@pytest.mark.parametrize("silent", [{"node1"}, {"node1", "node2"}])
async def test_without_the_balancer_nothing_is_asked_or_done(
    cluster: FakeCluster, tmp_path: Path, silent: set[str]
) -> None:
    async with draining(cluster, tmp_path / "a"):
        loses(cluster, *LINES)
        cluster.silent = silent
        await many_ticks(cluster)
    assert asked(cluster) == 0
    assert not out(cluster)


async def test_while_all_nodes_are_there_nothing_is_asked(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with draining(cluster, tmp_path / "a"):
        cluster.unreached = dict.fromkeys(LINES, FOREVER)
        await many_ticks(cluster)
    assert asked(cluster) == 0


async def test_the_last_ones_stay(cluster: FakeCluster, tmp_path: Path) -> None:
    for name in ("node1/gpu0", "node1/gpu1"):
        cluster.workers[name].health = "loading"
    async with draining(cluster, tmp_path / "a"):
        loses(cluster, *LINES)
        await until(lambda: any("did not drain" in event.text for event in cluster.events))
        await many_ticks(cluster)
    assert len(out(cluster)) <= 1


async def test_one_with_a_model_of_its_own_holds_up_no_other(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.workers[GPU0].model = "the only one"
    async with draining(cluster, tmp_path / "a"):
        loses(cluster, *LINES)
        await until(lambda: out(cluster))
        await many_ticks(cluster)
    assert out(cluster) == [LINE]


async def test_a_node_that_was_away_for_a_moment_is_not_asked_about(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with draining(cluster, tmp_path / "a"):
        for _ in range(WELL_TICKS):
            loses(cluster, *LINES)
            cluster.ticks = [lambda: None] * 3
            await until(lambda: not cluster.ticks)
            cluster.silent = set()
            cluster.ticks = [lambda: None] * 2
            await until(lambda: not cluster.ticks)
    assert asked(cluster) == 0

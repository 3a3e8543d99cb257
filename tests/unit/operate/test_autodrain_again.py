"""What auto-drain took out is put back by any later one, and never what a person took out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from llamatop.model.observed import LeftDrained
from llamatop.operate.service import ClusterOperator
from llamatop.operate.vitals import SURE_TICKS, WELL_TICKS, Vitals
from tests.unit.operate.beside import until
from tests.unit.operate.fakes import CONF, FakeCluster
from tests.unit.operate.test_autodrain import (
    GPU1,
    LINE,
    Clock,
    draining,
    fails,
    mark_down,
    ticks,
)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def operator(cluster: FakeCluster, tmp_path: Path) -> ClusterOperator:
    return cluster.operator(tmp_path / "mine.jsonl")


def ended(cluster: FakeCluster) -> bool:
    return bool(cluster.notes) and cluster.notes[-1][0] == "ended"


async def some_ticks(cluster: FakeCluster, number: int) -> None:
    cluster.ticks = [lambda: None] * number
    await until(lambda: not cluster.ticks)


async def drained_and_gone(cluster: FakeCluster, tmp_path: Path) -> None:
    """A llamatop took the dead one out and is no more; since then it is well again."""
    fails(cluster)
    async with draining(cluster, tmp_path / "first"):
        await until(lambda: ended(cluster))
    assert cluster.states()[LINE]
    cluster.workers[GPU1].active = "active"


async def carry_out(operator: ClusterOperator, *words: str) -> list[str]:
    plan = await operator.plan(words[0], list(words[1:]))  # type: ignore[arg-type]
    async for _ in operator.execute(plan):
        pass
    return [step.title for step in plan.steps]


async def test_a_later_one_puts_it_back(cluster: FakeCluster, tmp_path: Path) -> None:
    await drained_and_gone(cluster, tmp_path)
    async with draining(cluster, tmp_path / "second"):
        await until(lambda: not cluster.states()[LINE])


async def test_one_whose_plan_was_killed_before_its_end_is_put_back_too(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    await drained_and_gone(cluster, tmp_path)
    cluster.notes.pop()
    # half a minute later the lease is over
    cluster.notes = [*cluster.notes, *[("renewed", {"plan": "another"})] * 40]
    async with draining(cluster, tmp_path / "second"):
        await until(lambda: not cluster.states()[LINE])


async def test_what_a_person_drains_as_well_stays_out(
    cluster: FakeCluster, operator: ClusterOperator, tmp_path: Path
) -> None:
    await drained_and_gone(cluster, tmp_path)
    reloads = cluster.reloads
    (title,) = await carry_out(operator, "drain", GPU1)
    assert title == f"keep {GPU1} out: auto-drain took it out and does not put it back"
    assert cluster.states()[LINE]
    async with draining(cluster, tmp_path / "second"):
        await some_ticks(cluster, 6 * WELL_TICKS)
    assert cluster.states()[LINE]
    assert (await operator.plan("drain", [GPU1])).nothing == (f"{GPU1} is drained already",)
    assert cluster.reloads == reloads


@pytest.mark.parametrize("state", ["draining", "mixed"])
async def test_what_a_person_drains_while_requests_or_lines_are_left_stays_out(
    cluster: FakeCluster, operator: ClusterOperator, state: str
) -> None:
    both = f"server {LINE} down;"
    cluster.files[CONF] = cluster.files[CONF].replace(f"server {LINE};".encode(), both.encode())
    if state == "mixed":
        other = f"}}\nupstream other {{ server {LINE}; server 127.0.0.1:37081;"
        cluster.files[CONF] = cluster.files[CONF].replace(b"}", other.encode() + b"}", 1)
    else:
        cluster.workers[GPU1].busy = 1
    cluster.left = (LeftDrained("llama_cluster", LINE, "p", "ann", "drain", 3, auto=True),)
    snapshot = cluster.snapshot()
    assert [w.membership for w in snapshot.workers if w.name == GPU1] == [state]
    plan = await operator.plan("drain", [GPU1])
    titles = [step.title for step in plan.steps if step.kind == "membership"]
    kept = f"keep {GPU1} out: auto-drain took it out and does not put it back"
    assert titles == [kept] + [f"drain {GPU1}"] * (state == "mixed")
    cluster.workers[GPU1].busy = 0
    async for _ in operator.execute(plan):
        pass
    out = [about["members"] for event, about in cluster.notes if event == "out"]
    assert ["llama_cluster", LINE] in [list(member) for members in out for member in members]


async def test_the_one_that_took_it_out_yields_to_the_person_too(
    cluster: FakeCluster, operator: ClusterOperator, tmp_path: Path
) -> None:
    fails(cluster)
    async with draining(cluster, tmp_path / "first"):
        await until(lambda: ended(cluster))
        # long enough to read its own record
        await some_ticks(cluster, 3)
        await carry_out(operator, "drain", GPU1)
        cluster.workers[GPU1].active = "active"
        await some_ticks(cluster, 6 * WELL_TICKS)
    assert cluster.states()[LINE]


async def test_what_was_put_in_and_out_by_hand_in_the_file_stays_out(cluster: FakeCluster) -> None:
    vitals, up = Vitals(Clock()), cluster.files[CONF]
    cluster.left = (LeftDrained("llama_cluster", LINE, "p", "ann", "drain", 3, auto=True),)
    mark_down(cluster)
    assert ticks(vitals, cluster, WELL_TICKS - 1) == []
    cluster.files[CONF] = up
    assert ticks(vitals, cluster, SURE_TICKS) == []
    mark_down(cluster)
    assert ticks(vitals, cluster, 6 * WELL_TICKS) == []


@pytest.mark.parametrize(
    ("left", "ticks_until_back"),
    [
        (LeftDrained("llama_cluster", LINE, "p", auto=True), WELL_TICKS),
        (LeftDrained("llama_cluster", LINE, "p", auto=True, times=3), 4 * WELL_TICKS),
        (LeftDrained("llama_cluster", LINE, "p", auto=True, own=False), None),
        (LeftDrained("llama_cluster", LINE, "p"), None),
    ],
)
def test_only_its_own_word_counts_and_how_often_it_was_given(
    cluster: FakeCluster, left: LeftDrained, ticks_until_back: int | None
) -> None:
    vitals, cluster.left = Vitals(Clock()), (left,)
    mark_down(cluster)
    if ticks_until_back is None:
        assert ticks(vitals, cluster, 10 * WELL_TICKS) == []
        return
    assert ticks(vitals, cluster, ticks_until_back - 1) == []
    assert [move.action for move in ticks(vitals, cluster, 1)] == ["undrain"]


async def test_two_at_once_take_it_out_once_and_put_it_back_once(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with draining(cluster, tmp_path / "a"), draining(cluster, tmp_path / "b"):
        fails(cluster)
        await until(lambda: ended(cluster))
        await some_ticks(cluster, 2 * WELL_TICKS)
        cluster.workers[GPU1].active = "active"
        await until(lambda: not cluster.states()[LINE])
        await some_ticks(cluster, 4 * WELL_TICKS)
    # Both may mean to at the same moment: the second finds it done, and changes nothing.
    moved = [event for event, about in cluster.notes if event in ("out", "in")]
    assert [event for event, _ in itertools.groupby(moved)] == ["out", "in"]
    assert not [event.text for event in cluster.events if "did not" in event.text]


async def test_recover_puts_back_what_is_well_and_leaves_what_is_dead(
    cluster: FakeCluster, operator: ClusterOperator, tmp_path: Path
) -> None:
    await drained_and_gone(cluster, tmp_path)
    cluster.workers[GPU1].active = "failed"
    plan = await operator.plan("recover", [])
    assert (plan.steps, plan.stays) == ((), ())
    assert plan.nothing == (
        f"{GPU1} was taken out by auto-drain of {cluster.notes[0][1]['who']} just now:"
        " its unit failed, last result exit-code; it stays out:"
        " its unit failed, last result exit-code",
    )
    cluster.workers[GPU1].active = "active"
    assert (await carry_out(operator, "recover"))[-1] == f"put {GPU1} back in"
    assert not any(cluster.states().values())


async def test_recover_puts_back_what_answers_though_it_asks_for_a_key(
    cluster: FakeCluster, operator: ClusterOperator, tmp_path: Path
) -> None:
    await drained_and_gone(cluster, tmp_path)
    cluster.workers[GPU1].health = "unauthorized"
    assert (await carry_out(operator, "recover"))[-1] == f"put {GPU1} back in"
    assert not cluster.states()[LINE]

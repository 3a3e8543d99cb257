"""A split that was cut off, where recover has to doubt: whose word, who serves, who answers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed, Refused
from llamatop.model.observed import LeftDrained
from llamatop.operate import leases, sudoers, unit_files
from llamatop.operate.onnode import reshapes
from llamatop.operate.onnode.running import Failed
from llamatop.operate.unit_copy import MADE
from llamatop.probe import drains
from tests.unit.operate.fakes import CONF, FakeSource
from tests.unit.operate.test_reshape import (
    GIB,
    UNITS,
    UPSTREAM,
    Cards,
    CardsFleet,
    carried_out,
    killed_after,
    outline,
)

BACKUP = f"{UNITS}/backup.service"


async def test_a_file_that_llamatop_did_not_make_stays_whatever_a_record_says(
    tmp_path: Path,
) -> None:
    cluster, operator = await killed_after(tmp_path, f"write {UNITS}/llama-server-gpu1.service")
    text = b"[Service]\nExecStart=/usr/bin/backup\n"
    cluster.files[BACKUP] = text
    cluster.begun[0]["reshapings"][0]["news"] = [["backup.service", unit_files.digest(text), False]]
    plan = await operator.plan("recover", [])
    assert f"rm -f -- {BACKUP}" not in plan.text()
    assert f"{BACKUP} was changed" in plan.text()


@pytest.mark.parametrize("words", [b"Permission denied", b"Input/output error"])
async def test_what_cannot_be_read_is_not_removed(tmp_path: Path, words: bytes) -> None:
    cluster, operator = await killed_after(tmp_path, f"write {UNITS}/llama-server-gpu1.service")
    plan = await operator.plan("recover", [])
    cluster.unreadable = words
    before = cluster.units()
    with pytest.raises(PlanFailed, match=f"is not known: cat: {words.decode()}"):
        await carried_out(operator, plan)
    assert cluster.units() == before


async def test_another_users_record_is_named_and_not_obeyed(tmp_path: Path) -> None:
    cluster, operator = await killed_after(tmp_path, "start node1/gpu0")
    cluster.begun[0] |= {"own": False, "record": "/var/tmp/llamatop-drains-1001.jsonl"}
    plan = await operator.plan("recover", [])
    assert plan.steps == (), "its members are no plain drains either"
    assert "unsplit node1/big by ann" in plan.stays[0]
    assert "/var/tmp/llamatop-drains-1001.jsonl of node1" in plan.stays[0]
    with pytest.raises(Refused, match=r"llamatop-drains-1001\.jsonl"):
        await operator.plan("unsplit", ["node1/big"])
    needed = await sudoers.needs(
        FakeSource(cluster).latest, CardsFleet(cluster), "node1", write_units=True
    )
    path = f"{UNITS}/llama-server-gpu1.service"
    assert not any(path in command.argv for command in needed.commands)


def test_whose_record_it_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMATOP_DRAINS_DIRECTORY", str(tmp_path))
    mine = [{"news": [["a.service", "d", False]], "olds": []}]
    about = {"plan": "p1", "who": "ann", "what": "unsplit node1/a", "returns": []}
    reshapes.begin(about, mine)
    assert [one["own"] for one in reshapes.found(time.time())] == [True]
    read = drains.read

    def anothers(uid: int) -> list[dict[str, object]]:
        return [{**line, "at": line["at"] - 60, drains.OWNER: 4001} for line in read(uid)]

    monkeypatch.setattr(drains, "read", anothers)
    (found,) = reshapes.found(time.time())
    assert (found["own"], found["record"]) == (False, drains.path(4001))
    with pytest.raises(Failed, match=r"only its user.*llamatop-drains-4001\.jsonl"):
        reshapes.begin({**about, "plan": "p2"}, mine)


@pytest.mark.parametrize("wrong", ["inactive", "unreachable", "gone"])
async def test_it_goes_on_only_to_workers_that_all_answer(tmp_path: Path, wrong: str) -> None:
    cluster, operator = await killed_after(
        tmp_path, "put node1/gpu0, node1/gpu1 in, drain node1/big", 20 * GIB
    )
    gpu1 = cluster.workers["node1/gpu1"]
    if wrong == "inactive":
        gpu1.active, gpu1.sub = "inactive", "dead"
    elif wrong == "unreachable":
        gpu1.health = "unreachable"
    else:
        del cluster.workers["node1/gpu1"]
    plan = await operator.plan("recover", [])
    assert plan.steps == ()
    assert re.search(r"not known to answer: node1/(llama-server-)?gpu1;", plan.stays[0])
    assert cluster.workers["node1/big"].active == "active"


@pytest.mark.parametrize(
    ("title", "free", "ends"),
    [
        (f"write {UNITS}/llama-server-gpu1.service", 20 * GIB, "old"),
        ("start node1/gpu0", 20 * GIB, "node1/gpu0 and node1/big may both"),
        ("start node1/gpu0", 6 * GIB, "not known to answer: node1/gpu0, node1/gpu1;"),
        ("wait until node1/gpu1 answers", 20 * GIB, "and node1/big may both"),
        ("wait until node1/gpu1 answers", 6 * GIB, "new"),
        ("stop node1/big", 20 * GIB, "new"),
    ],
)
async def test_without_a_balancer_nothing_that_may_serve_is_stopped(
    tmp_path: Path, title: str, free: int, ends: str
) -> None:
    cluster, operator = await killed_after(tmp_path, title, free, balancer=False)
    running = {name for name, worker in cluster.workers.items() if worker.active == "active"}
    plan = await operator.plan("recover", [])
    assert [step for step in plan.steps if step.verb == "stop"] == []
    if ends not in ("old", "new"):
        assert ends in " ".join(plan.stays)
        assert plan.steps == ()
        return
    assert plan.stays == ()
    await carried_out(operator, plan)
    assert cluster.begun == []
    assert {name for name, one in cluster.workers.items() if one.active == "active"} == running
    made = [name for name in cluster.units() if cluster.text(name).startswith(MADE)]
    assert bool(made) is (ends == "new")
    assert cluster.workers["node1/big"].enabled == ("enabled" if ends == "old" else "disabled")


@pytest.mark.parametrize(
    ("step", "passed_over"), [("lock", False), ("program", False), ("python3", True)]
)
async def test_a_node_that_did_not_say_is_named_and_its_members_stay_out(
    tmp_path: Path, step: str, passed_over: bool
) -> None:
    cluster = Cards.one()
    cluster.files[CONF] = UPSTREAM.replace(b"weight=2;", b"weight=2 down;")
    cluster.left = (LeftDrained("llama_cluster", "127.0.0.1:37081", "p", "ann", "drain", 3),)
    cluster.reshapes_fail = {"node1": (step, "locked by bob")}
    plan = await cluster.operator(tmp_path / "audit.jsonl").plan("recover", [])
    if passed_over:
        assert outline(plan)[-1] == "put node1/big back in"
        assert plan.stays == ()
    else:
        assert plan.steps == ()
        assert "node1/big stays drained" in plan.stays[0]
        assert "not known: node1: locked by bob" in plan.stays[1]


async def test_what_cannot_be_written_down_is_not_begun(tmp_path: Path) -> None:
    cluster = Cards.one()
    units = cluster.units()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    cluster.unrecorded = "/var/tmp/x: No space left on device"
    with pytest.raises(PlanFailed, match=r"No space left on device; nothing was done"):
        await carried_out(operator, plan)
    assert cluster.units() == units


async def test_a_node_that_hangs_keeps_no_plan_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SAY_SECONDS", 0.05, raising=False)
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    running = operator.execute(await operator.plan("unsplit", ["node1/big"]))
    async for result in running:
        if result.step.title == "disable node1/big" and result.state == "done":
            cluster.hung, hung_at = {"node1"}, time.monotonic()
    assert time.monotonic() - hung_at < 40


async def test_the_same_again_finds_nothing_to_do(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    for words in (["node1/*"], ["node1/b*"], ["node1/big", "node1/gpu2"]):
        if cluster.workers["node1/big"].active == "active":
            await carried_out(operator, await operator.plan("unsplit", words))
        again = await operator.plan("unsplit", words)
        assert again.steps == ()
        assert "node1/big does not run (inactive): start it first" in again.nothing
    with pytest.raises(Refused, match="does not run"):
        await operator.plan("unsplit", ["node1/big"])

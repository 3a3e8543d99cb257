"""Plans carried out: progress, reading back, and what is put back when a step fails."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.errors import PlanFailed
from llamatop.model.plan import Plan, StepResult
from llamatop.operate.service import ClusterOperator
from tests.unit.operate.fakes import CONF, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


@pytest.fixture
def operator(cluster: FakeCluster, audit: Path) -> ClusterOperator:
    return cluster.operator(audit)


async def carry_out(operator: ClusterOperator, plan: Plan, into: list[StepResult]) -> None:
    async for result in operator.execute(plan):
        into.append(result)


def ended(results: list[StepResult]) -> list[str]:
    return [f"{r.number} {r.state}" for r in results if r.state != "running"]


def changes(cluster: FakeCluster) -> list[str]:
    return [
        command.partition(":")[0] if command.startswith("transaction") else command.split()[2]
        for _, command in cluster.ran
        if command.startswith(("transaction", "systemctl"))
    ]


async def test_restart_waits_for_requests_and_for_health(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    before = dict(cluster.files)
    worker = cluster.workers["node1/gpu0"]
    worker.busy, worker.deferred = 1, 1
    cluster.connections = {"127.0.0.1:37081": 2}
    seen: list[tuple[str, bool]] = []
    cluster.ticks = [
        lambda: setattr(worker, "deferred", 0),
        lambda: setattr(worker, "busy", 0),
        lambda: cluster.connections.clear(),
    ]
    cluster.during_systemctl = lambda: seen.append((worker.active, cluster.states()[worker.member]))
    results: list[StepResult] = []
    await carry_out(operator, await operator.plan("restart", ["node1/gpu0"]), results)
    assert ended(results) == [f"{n} done" for n in range(1, 6)]
    assert seen == [("active", True)]
    assert cluster.files == before
    assert worker.pid == 101
    waited = [r.progress for r in results if r.step.kind == "wait-drained" and r.progress]
    assert waited[0].startswith("1 busy slot, 1 waiting, 2 connections of old workers, ")
    assert waited[-1].startswith("0 busy slots, 2 connections of old workers, ")
    assert cluster.ticks == []


async def test_a_wait_that_lasts_too_long_puts_the_member_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    before = dict(cluster.files)
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("stop", ["node1/gpu0"], timeout_seconds=0.05)
    results: list[StepResult] = []
    with pytest.raises(
        PlanFailed, match=r"1 busy slot.*undone: 127.0.0.1:37081 in again"
    ) as caught:
        await carry_out(operator, plan, results)
    assert caught.value.exit_code == 1
    assert ended(results) == ["1 done", "2 failed", "1 undone"]
    assert cluster.files == before
    assert cluster.workers["node1/gpu0"].active == "active"
    assert changes(cluster) == ["transaction", "transaction"]


async def test_what_cannot_be_known_is_never_taken_for_drained(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].busy = cluster.workers["node1/gpu0"].deferred = None
    cluster.connections = None
    plan = await operator.plan("drain", ["node1/gpu0"], timeout_seconds=0.05)
    with pytest.raises(PlanFailed, match="neither slots nor connections are known"):
        await carry_out(operator, plan, [])


async def test_a_node_that_dies_while_draining_is_not_drained(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node2/gpu0"].busy = 1
    plan = await operator.plan("stop", ["node2/gpu0"], timeout_seconds=0.1)
    cluster.ticks = [lambda: cluster.silent.add("node2")]
    with pytest.raises(PlanFailed, match="node2 does not answer"):
        await carry_out(operator, plan, [])
    assert cluster.states()["127.0.0.1:37083"] is False, "the balancer still reaches it"
    assert "stop" not in changes(cluster)


async def test_a_worker_that_died_while_draining_is_not_put_back_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    for name in ("node1/gpu0", "node2/gpu0"):
        cluster.workers[name].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0", "node2/gpu0"], timeout_seconds=0.1)

    def power_cut() -> None:
        cluster.silent.add("node2")
        cluster.unreached["127.0.0.1:37083"] = 99

    cluster.ticks = [power_cut]
    with pytest.raises(PlanFailed) as caught:
        await carry_out(operator, plan, [])
    assert "undone: 127.0.0.1:37081 in again" in str(caught.value)
    assert (
        "node2/gpu0 stays drained, node1 does not reach it at 127.0.0.1:37083:"
        " [Errno 111] Connection refused: undrain it later"
    ) in str(caught.value)
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37083"]


async def test_a_balancer_that_stays_away_is_told_with_what_puts_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node2/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node2/gpu0"], timeout_seconds=0.1)
    cluster.ticks = [lambda: cluster.silent.add("node1")]
    with pytest.raises(PlanFailed) as caught:
        await carry_out(operator, plan, [])
    assert str(caught.value).endswith(
        "NOT undone, 127.0.0.1:37083 still down: node1: no answer;"
        " once node1 answers, `llamatop recover` puts it back"
    )


async def test_what_could_not_be_written_down_on_the_balancer_is_said(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.unrecorded = "/var/tmp/llamatop-drains-0.jsonl: No space left on device"
    results: list[StepResult] = []
    await carry_out(operator, await operator.plan("drain", ["node1/gpu0"]), results)
    done = [result for result in results if result.state == "done"]
    assert done[0].progress == (
        "not written down on node1 (/var/tmp/llamatop-drains-0.jsonl: No space left on device):"
        " were this plan cut off, nobody could tell what it left drained"
    )
    assert cluster.states()["127.0.0.1:37081"] is True


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("failed", r"failed \(exit-code\); its journal ends with: CUDA error: out of memory"),
        ("flaps", r"it fails and systemd starts it again \(exit-code\)"),
    ],
)
async def test_a_worker_that_does_not_come_back_stays_out(
    cluster: FakeCluster, operator: ClusterOperator, fails: str, says: str
) -> None:
    cluster.workers["node1/gpu0"].fails = fails
    plan = await operator.plan("restart", ["node1/gpu0", "node1/gpu1"])
    results: list[StepResult] = []
    with pytest.raises(PlanFailed, match=says) as caught:
        await carry_out(operator, plan, results)
    assert "node1/gpu0 stays drained, it is not healthy" in str(caught.value)
    assert ended(results) == ["1 done", "2 done", "3 done", "4 failed"]
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37081"]
    assert cluster.workers["node1/gpu1"].pid == 101


async def test_a_refused_stop_puts_the_healthy_member_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.systemctl_refuses = "stop"
    plan = await operator.plan("stop", ["node1/gpu0"])
    with pytest.raises(
        PlanFailed, match=r"authentication required.*undone: 127.0.0.1:37081 in again"
    ):
        await carry_out(operator, plan, [])
    assert not any(cluster.states().values())


async def test_one_of_two_stopped_only_the_other_comes_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("stop", ["node1/gpu0", "node2/gpu1"])
    cluster.during_systemctl = lambda: setattr(
        cluster, "systemctl_refuses", "stop" if changes(cluster).count("stop") == 2 else ""
    )
    with pytest.raises(PlanFailed, match="authentication required"):
        await carry_out(operator, plan, [])
    assert cluster.workers["node1/gpu0"].active == "inactive"
    assert [address for address, down in cluster.states().items() if down] == ["127.0.0.1:37081"]


async def test_a_stop_that_did_not_hold_is_a_failure(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    worker = cluster.workers["node1/gpu0"]
    plan = await operator.plan("stop", ["node1/gpu0"], now=True)
    cluster.during_systemctl = lambda: setattr(worker, "unit", "llama-server-gpu0-new.service")
    with pytest.raises(PlanFailed, match="cannot be read back"):
        await carry_out(operator, plan, [])


async def test_a_file_changed_elsewhere_by_another_hand_is_edited_anew(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("stop", ["node1/gpu0"])
    cluster.files[CONF] = b"# theirs\n" + cluster.files[CONF] + b"# mine now\n"
    results: list[StepResult] = []
    await carry_out(operator, plan, results)
    text = cluster.files[CONF]
    assert text.startswith(b"# theirs\n")
    assert text.endswith(b"# mine now\n")
    assert cluster.states()["127.0.0.1:37081"]
    assert "edited anew" in "".join(result.progress for result in results)
    assert cluster.workers["node1/gpu0"].active == "inactive"


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (b"server 127.0.0.1:37081 weight=3;", "llama.conf:3: server 127.0.0.1:37081 of llama_clu"),
        (b"server 127.0.0.1:37089;", "llama.conf:3: .* was taken away by another hand"),
    ],
)
async def test_a_member_changed_by_another_hand_stops_it_before_anything(
    cluster: FakeCluster, operator: ClusterOperator, theirs: bytes, says: str
) -> None:
    plan = await operator.plan("stop", ["node1/gpu0"])

    def change() -> None:
        text = cluster.files[CONF].replace(b"server 127.0.0.1:37081;", theirs)
        cluster.files[CONF] = text

    cluster.before_transaction = change
    with pytest.raises(PlanFailed, match=rf"{says}.*; done before: nothing"):
        await carry_out(operator, plan, [])
    assert not any(cluster.states().values())
    assert cluster.workers["node1/gpu0"].active == "active"
    assert changes(cluster) == ["transaction"]


async def test_another_hand_that_drained_the_rest_meanwhile_is_met_by_the_guard(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("stop", ["node1/gpu0"])

    def drain_others() -> None:
        for port in (37082, 37083, 37084):
            line = f"server 127.0.0.1:{port};".encode()
            cluster.files[CONF] = cluster.files[CONF].replace(line, line[:-1] + b" down;")

    cluster.before_transaction = drain_others
    with pytest.raises(PlanFailed, match="is the last member in"):
        await carry_out(operator, plan, [])
    assert not cluster.states()["127.0.0.1:37081"]


async def test_another_edit_meanwhile_survives_the_rollback(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0"], timeout_seconds=0.05)

    def another() -> None:
        if (
            cluster.files[CONF].count(b"#") == before.count(b"#")
            and b" down;" in cluster.files[CONF]
        ):
            cluster.files[CONF] += b"# mine now\n"

    before = cluster.files[CONF]
    cluster.looked = another
    with pytest.raises(PlanFailed, match="in again"):
        await carry_out(operator, plan, [])
    assert cluster.files[CONF] == before + b"# mine now\n"


async def test_a_lock_held_by_another_is_a_refusal(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("drain", ["node1/gpu0"])
    cluster.transaction_fails = ("lock", "locked by ann@desk: drain node1/gpu1 (pid 12)")
    with pytest.raises(PlanFailed, match="locked by ann@desk") as caught:
        await carry_out(operator, plan, [])
    assert caught.value.exit_code == 4


async def test_a_guard_is_asked_again_when_the_plan_runs(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("drain", ["node1/gpu0"])
    for name in ("node1/gpu1", "node2/gpu0", "node2/gpu1"):
        cluster.workers[name].health = "unreachable"
    with pytest.raises(PlanFailed, match="last member in") as caught:
        await carry_out(operator, plan, [])
    assert caught.value.exit_code == 4
    assert changes(cluster) == []


async def test_a_cut_connection_is_asked_again(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("drain", ["node1/gpu0"])
    cluster.transaction_cuts = 1
    results: list[StepResult] = []
    await carry_out(operator, plan, results)
    assert cluster.states()["127.0.0.1:37081"] is True
    assert any("connection lost" in r.progress for r in results)


@pytest.mark.parametrize("told", [True, False])
async def test_a_connection_cut_at_systemctl_restarts_exactly_once(
    cluster: FakeCluster, operator: ClusterOperator, told: bool
) -> None:
    plan = await operator.plan("restart", ["node1/gpu0"])
    cluster.systemctl_cuts = (1, told)
    await carry_out(operator, plan, [])
    assert cluster.workers["node1/gpu0"].pid == 101
    assert changes(cluster).count("restart") == (1 if told else 2)
    assert not any(cluster.states().values())


async def test_cancelling_puts_back_and_then_ends(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0"])
    results: list[StepResult] = []
    waiting = asyncio.Event()
    cluster.ticks = [waiting.set]
    task = asyncio.create_task(carry_out(operator, plan, results))
    await asyncio.wait_for(waiting.wait(), 30)
    assert cluster.states()["127.0.0.1:37081"] is True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended(results) == ["1 done", "2 failed", "1 undone"]
    assert not any(cluster.states().values())


async def test_a_reader_that_leaves_does_not_leave_it_half_done(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].busy = 1
    results = operator.execute(await operator.plan("drain", ["node1/gpu0"]))
    async for result in results:
        if result.step.kind == "wait-drained":
            break
    assert cluster.states()["127.0.0.1:37081"] is True
    await results.aclose()
    assert not any(cluster.states().values())


async def test_cancelled_inside_the_transaction_it_is_taken_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("drain", ["node1/gpu0"])
    task = asyncio.create_task(carry_out(operator, plan, []))
    cluster.before_transaction = lambda: task.cancel() and None
    with pytest.raises(asyncio.CancelledError):
        await task
    assert changes(cluster) == ["transaction", "transaction"]
    assert not any(cluster.states().values())


async def test_cancelled_inside_its_last_transaction_it_is_done(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await carry_out(operator, await operator.plan("drain", ["node1/gpu0"]), [])
    plan = await operator.plan("undrain", ["node1/gpu0"])
    results: list[StepResult] = []
    task = asyncio.create_task(carry_out(operator, plan, results))
    cluster.before_transaction = lambda: task.cancel() and None
    await task
    assert ended(results) == ["1 done", "2 done"]
    assert not any(cluster.states().values())


async def test_a_tunnel_is_restarted_and_its_members_come_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    before = dict(cluster.files)
    results: list[StepResult] = []
    await carry_out(operator, await operator.plan("restart", ["node1/llama-tunnel"]), results)
    assert ended(results)[-1] == "6 done"
    assert cluster.files == before


async def test_a_member_that_the_balancer_does_not_reach_is_not_put_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("restart", ["node2/gpu0"], timeout_seconds=0.1)
    cluster.unreached = {"127.0.0.1:37083": 1000}
    with pytest.raises(PlanFailed, match=r"node1 does not reach it at 127.0.0.1:37083: .*refused"):
        await carry_out(operator, plan, [])
    assert "restart" in changes(cluster)
    assert cluster.states()["127.0.0.1:37083"] is True


async def test_a_tunnel_that_takes_its_time_is_waited_for(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("restart", ["node1/llama-tunnel"])
    cluster.unreached = {"127.0.0.1:37084": 2}
    results: list[StepResult] = []
    await carry_out(operator, plan, results)
    assert ended(results)[-1] == "6 done"
    assert cluster.unreached == {}


async def test_enable_is_read_back(cluster: FakeCluster, operator: ClusterOperator) -> None:
    await carry_out(operator, await operator.plan("disable", ["node2/gpu1"]), [])
    assert cluster.workers["node2/gpu1"].enabled == "disabled"


async def test_the_audit_log_holds_everything_and_is_private(
    cluster: FakeCluster, operator: ClusterOperator, audit: Path
) -> None:
    await carry_out(operator, await operator.plan("drain", ["node1/gpu0"]), [])
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["plan", "step", "step", "end"]
    assert lines[0]["plan"]["action"] == "drain"
    assert "down;" in lines[0]["plan"]["steps"][0]["diff"]
    assert "@" in lines[0]["who"]
    assert lines[3]["ok"] is True
    assert len({line["id"] for line in lines}) == 1
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    told = [event.text.partition(" (")[0] for event in cluster.events]
    assert told == [
        "drain node1/gpu0: begun",
        "drain node1/gpu0: drain node1/gpu0: done",
        "drain node1/gpu0: wait until nothing runs on node1/gpu0: done",
        "drain node1/gpu0: done",
    ]
    journal = [words for node, words in cluster.ran if words.startswith("logger ")]
    begun, waited, done = journal
    assert begun.startswith("logger -t llamatop -p user.notice -- '")
    assert f", plan {lines[0]['id']}: drain node1/gpu0: begun'" in begun
    assert "step 2 (wait until nothing runs on node1/gpu0) done after " in waited
    assert done.endswith(": done'")


async def test_why_is_told_wherever_the_plan_is(
    cluster: FakeCluster, operator: ClusterOperator, audit: Path
) -> None:
    plan = replace(await operator.plan("drain", ["node1/gpu0"]), reason="new fan")
    assert "\n  why: new fan\n" in plan.text()
    await carry_out(operator, plan, [])
    assert json.loads(audit.read_text().splitlines()[0])["plan"]["reason"] == "new fan"
    assert cluster.events[0].text == "drain node1/gpu0 (new fan): begun"
    assert cluster.events[-1].text == "drain node1/gpu0: done"
    journal = [words for _, words in cluster.ran if words.startswith("logger ")]
    assert all("drain node1/gpu0 (new fan): " in words for words in journal)
    assert (await operator.plan("undo", [])).about.startswith(
        "takes back: drain node1/gpu0 (new fan), by "
    )


async def test_an_audit_log_that_cannot_be_written_is_said(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    operator = cluster.operator(blocker / "audit.jsonl")
    await carry_out(operator, await operator.plan("disable", ["node1/gpu0"]), [])
    assert any("audit log" in event.text for event in cluster.events)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_under_the_audit_log_is_said_once_and_stops_nothing(
    cluster: FakeCluster, audit: Path
) -> None:
    audit.parent.mkdir()
    operator = cluster.operator(audit)
    plan = await operator.plan("drain", ["node1/gpu0"])
    running = operator.execute(plan)
    await anext(running)
    audit.unlink()
    audit.symlink_to("/dev/full")
    assert [result.state async for result in running][-1] == "done"
    told = [event.text for event in cluster.events if event.severity == "warning"]
    assert told == [f"the audit log {audit} cannot be written: No space left on device"]


async def test_half_a_line_in_the_audit_log_costs_no_other(
    cluster: FakeCluster, operator: ClusterOperator, audit: Path
) -> None:
    await carry_out(operator, await operator.plan("drain", ["node1/gpu0"]), [])
    with audit.open("a") as file:
        file.write('{"at": "2026-')
    await carry_out(operator, await operator.plan("undrain", ["node1/gpu0"]), [])
    lines = audit.read_text().splitlines()
    assert lines.count('{"at": "2026-') == 1
    events = [json.loads(line)["event"] for line in lines if line.endswith("}")]
    assert events == ["plan", "step", "step", "end"] * 2

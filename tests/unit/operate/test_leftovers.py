"""What is written down of drained members, what counts as left over, and how it is put right."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop.collect import leftovers
from llamatop.errors import PlanFailed, Refused
from llamatop.model.observed import LeftDrained
from llamatop.model.plan import Plan, StepResult
from llamatop.operate import leases
from llamatop.operate.service import ClusterOperator
from llamatop.probe import drains
from tests.unit.operate.fakes import CONF, FakeCluster
from tests.unit.operate.real_nginx import UPSTREAM, RealNginx

pytestmark = pytest.mark.slow

DOWN = UPSTREAM.replace(b":9;", b":9 down;")
MEMBER = ["u", "127.0.0.1:9"]
ABOUT = {"plan": "p1", "who": "ann@laptop", "what": "restart node1/gpu0", "returns": [MEMBER]}


def line(event: str, at: float, plan: str = "p1", **more: object) -> dict[str, object]:
    members = [MEMBER] if event in ("out", "in") else []
    about = {**ABOUT, "plan": plan, "event": event, "at": at, "members": members}
    return {**about, **more}


@pytest.mark.parametrize(
    ("lines", "now", "is_left"),
    [
        ([line("out", 100.0)], 110.0, False),
        ([line("out", 100.0)], 131.0, True),
        ([line("out", 100.0), line("renewed", 125.0)], 131.0, False),
        ([line("out", 100.0), line("renewed", 125.0)], 156.0, True),
        ([line("out", 100.0), line("in", 105.0)], 200.0, False),
        ([line("out", 100.0), line("in", 105.0, "p2")], 200.0, False),
        ([line("out", 100.0), line("ended", 105.0)], 110.0, True),
        ([line("out", 100.0, returns=[]), line("ended", 105.0)], 200.0, False),
        ([line("out", 100.0, returns=[])], 200.0, True),
        ([line("in", 90.0), line("out", 100.0)], 200.0, True),
        # A clock that was set back says nothing of a lease.
        ([line("out", 100.0)], 50.0, True),
    ],
)
def test_what_counts_as_left(lines: list[dict[str, object]], now: float, is_left: bool) -> None:
    found = drains.left(list(reversed(lines)), now)
    assert bool(found) is is_left
    for one in found:
        assert (one["who"], one["what"]) == ("ann@laptop", "restart node1/gpu0")
        assert one["minutes"] == max(int(now - 100) // 60, 0)


AUTO = {"auto": True, "returns": []}
ANN, BOB = {"owner": 4001}, {"owner": 4002}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        # However its plan ended, auto-drain is to put it back.
        ([line("out", 100.0, **AUTO), line("ended", 105.0)], (True, 1)),
        ([line("out", 100.0, **AUTO)], (True, 1)),
        ([line("out", 190.0, **AUTO)], None),
        ([line("out", 100.0, **AUTO), line("in", 110.0, "p2")], None),
        # A person took it out since, on purpose.
        ([line("out", 100.0, **AUTO), line("out", 110.0, "p2", returns=[])], None),
        (
            [
                line("out", 100.0, **AUTO),
                line("out", 110.0, "p2", returns=[]),
                line("ended", 111.0, "p2"),
            ],
            None,
        ),
        # How often, within the hour.
        ([line("out", at, **AUTO) for at in (100.0, 120.0, 140.0)], (True, 3)),
        ([line("out", at, **AUTO) for at in (-3500.0, 120.0, 140.0)], (True, 2)),
        # Another user's record does not bring back what this one took out.
        ([line("out", 100.0, "p0", returns=[], **BOB), line("out", 110.0, **AUTO, **ANN)], None),
        # Nor is another user's word put back unasked.
        ([line("out", 100.0, **AUTO, **ANN)], (False, 1)),
        ([line("out", 100.0, **AUTO, owner=0)], (True, 1)),
    ],
)
def test_what_auto_drain_is_to_put_back(
    lines: list[dict[str, object]], found: tuple[bool, int] | None
) -> None:
    ends = [line("ended", 150.0, str(one["plan"])) for one in lines if "auto" not in one]
    left = drains.left([*lines, *ends], 200.0)
    assert [(one["own"], one["times"]) for one in left if one.get("auto")] == (
        [found] if found else []
    )
    assert all(one.get("auto") for one in left)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLAMATOP_DRAINS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_only_what_a_user_wrote_himself_is_read(place: Path) -> None:
    mine = Path(drains.path(os.geteuid()))
    text = json.dumps(line("out", 100.0))
    mine.write_text(text + '\nnonsense\n{"event":"out"}\n[]\n' + text.replace("out", "burn") + "\n")
    assert len(drains.read(os.geteuid())) == 1
    theirs = Path(drains.path(os.geteuid() + 1))
    theirs.write_text(text)
    assert drains.read(os.geteuid() + 1) == [], "another user's name, but our file"
    other = place / "other"
    mine.rename(other)
    mine.symlink_to(other)
    assert drains.read(os.geteuid()) == []
    mine.unlink()
    os.mkfifo(mine)
    assert drains.read(os.geteuid()) == []


@pytest.mark.parametrize(
    "wild",
    [
        '"at": NaN',
        '"at": Infinity',
        '"at": -Infinity',
        '"at": -1e308',
        '"at": 7',
        '"returns": 5',
        '"returns": "u"',
        '"members": 5',
        '"members": [["u", 9]]',
    ],
)
def test_a_wild_line_is_passed_over(place: Path, wild: str) -> None:
    good = json.dumps(line("out", 100.0))
    # of a key that is there twice the last counts
    text = f"{good[:-1]}, {wild}}}\n".replace("p1", "wild")
    Path(drains.path(os.geteuid())).write_text(text + good + "\n" + text)
    assert [one["plan"] for one in drains.read(os.geteuid())] == ["p1"]
    assert [one["plan"] for one in drains.Records().left(200.0)] == ["p1"]


def test_a_clock_that_was_set_back_turns_no_order_round(place: Path) -> None:
    """A roll ended well at noon; the clock was set back, and somebody drained on purpose."""
    lines = [
        line("out", 1000.0),
        line("in", 500.0),
        line("ended", 501.0),
        line("out", 600.0, "p2", returns=[]),
        line("ended", 601.0, "p2"),
    ]
    file = Path(drains.path(os.geteuid()))
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert drains.Records().left(700.0) == []
    assert drains.Records().left(5000.0) == []


def test_records_are_read_again_when_they_change(place: Path) -> None:
    records = drains.Records()
    assert records.left(200.0) == []
    file = Path(drains.path(os.geteuid()))
    file.write_text(json.dumps(line("out", 100.0)) + "\n")
    assert [one["address"] for one in records.left(200.0)] == ["127.0.0.1:9"]
    file.write_text(json.dumps(line("out", 100.0)) + "\n" + json.dumps(line("in", 101.0)) + "\n")
    assert records.left(200.0) == []


def record(real: RealNginx) -> Path:
    return real.root / "lock" / f"llamatop-drains-{os.geteuid()}.jsonl"


def written(real: RealNginx) -> list[tuple[object, object]]:
    lines = [json.loads(text) for text in record(real).read_text().splitlines()]
    return [(one["event"], one.get("members")) for one in lines]


def moves(out: bool) -> dict[str, object]:
    return {"about": ABOUT, "out": [MEMBER] if out else [], "in": [] if out else [MEMBER]}


def test_out_and_in_are_written_down_for_everybody_to_read(real: RealNginx) -> None:
    os.umask(0o077)
    try:
        assert real.run(real.request(drains=moves(out=True)))[-1]["event"] == "done"
    finally:
        os.umask(0o022)
    assert written(real) == [("out", [MEMBER])]
    assert stat.S_IMODE(record(real).stat().st_mode) == 0o644
    assert real.run(real.request(after=UPSTREAM, drains=moves(out=False)))[-1]["event"] == "done"
    assert written(real) == [("out", [MEMBER]), ("in", [MEMBER])]
    notes = {"do": "note", "about": ABOUT, "holder": "ann", "lock_seconds": 5}
    for event in ("renewed", "renewed", "ended"):
        assert real.run({**notes, "event": event})[-1]["event"] == "done"
    assert [event for event, _ in written(real)] == ["out", "in", "renewed", "ended"]
    assert [path.name for path in (real.root / "lock").iterdir() if "new" in path.name] == []


def test_a_record_for_which_the_disk_has_half_a_place_stays_as_it_was(place: Path) -> None:
    record = Path(drains.path(os.geteuid()))
    record.write_text("".join(json.dumps(line("in", time.time())) + "\n" for _ in range(9)))
    before = record.read_text()
    program = (
        "import resource\n"
        "from llamatop.operate.onnode import drains\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before)},) * 2)\n"
        f"drains.note({ABOUT!r}, 'out', [{MEMBER!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert told == {"event": "unrecorded", "error": f"{record}: File too large"}, done.stderr
    assert record.read_text() == before
    assert [path.name for path in place.iterdir()] == [record.name]


def test_what_was_out_before_is_written_down_anew_without_a_reload(real: RealNginx) -> None:
    workers, text = real.workers(), real.target.read_bytes()
    request = real.request(after=text, drains={**moves(out=True), "kept": True})
    assert [event["event"] for event in real.run(request)] == ["locked", "done"]
    assert written(real) == [("out", [MEMBER])]
    assert (real.workers(), real.target.read_bytes()) == (workers, text)


def test_a_drain_that_nginx_refuses_is_no_drain(real: RealNginx) -> None:
    after = UPSTREAM.replace(b":10", b":nonsense")
    assert real.run(real.request(after=after, drains=moves(out=True)))[-1]["event"] == "failed"
    assert written(real) == [("out", [MEMBER]), ("in", [MEMBER])]


def test_killed_with_the_member_out_it_is_known_who_had_it(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    request = real.request(test=["cat", str(gate)], drains=moves(out=True))
    transaction = real.begin(request)
    transaction.until("written")
    os.killpg(transaction.child(), signal.SIGKILL)
    list(transaction)
    assert real.target.read_bytes() == DOWN
    assert written(real) == [("out", [MEMBER])]
    look = {"do": "look", "targets": [str(real.target)], "holder": "bob", "lock_seconds": 5}
    found = real.run(look)[1]
    assert found == {"event": "found", "left": {str(real.target): "swapped"}}


@pytest.mark.parametrize("kind", ["file", "link", "temporary"])
def test_what_another_user_put_there_stops_nothing(real: RealNginx, kind: str) -> None:
    """As root nothing refuses a rename, so a directory stands in for another user's file."""
    target = record(real)
    if kind == "link":
        (real.root / "precious").write_text("precious")
        target.symlink_to(real.root / "precious")
    elif kind == "file":
        target.mkdir()
    else:
        target.with_name(f".{target.name}.new").mkdir()
    events = real.run(real.request(drains=moves(out=True)))
    assert events[-1]["event"] == "done"
    if kind == "link":
        assert (real.root / "precious").read_text() == "precious"
        assert written(real) == [("out", [MEMBER])]
        assert not target.is_symlink()
    else:
        assert "unrecorded" in [event["event"] for event in events]
    assert real.target.read_bytes() == DOWN


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def operator(cluster: FakeCluster, tmp_path: Path) -> ClusterOperator:
    return cluster.operator(tmp_path / "audit.jsonl")


async def carry_out(operator: ClusterOperator, plan: Plan) -> list[StepResult]:
    return [result async for result in operator.execute(plan)]


def noted(cluster: FakeCluster) -> list[str]:
    return [event for event, _ in cluster.notes]


async def test_a_deliberate_drain_ends_well_and_a_restart_brings_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    await carry_out(operator, await operator.plan("drain", ["node1/gpu0"]))
    assert noted(cluster) == ["out", "ended"]
    assert cluster.notes[0][1]["returns"] == []
    cluster.notes.clear()
    await carry_out(operator, await operator.plan("restart", ["node1/gpu1"]))
    assert noted(cluster) == ["out", "in"]
    about = cluster.notes[0][1]
    assert about["what"] == "restart node1/gpu1"
    assert about["returns"] == about["members"] == [["llama_cluster", "127.0.0.1:37082"]]


async def test_a_plan_that_lasts_renews_its_lease(
    cluster: FakeCluster, operator: ClusterOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0"])
    task = asyncio.create_task(carry_out(operator, plan))
    async with asyncio.timeout(30):
        while noted(cluster).count("renewed") < 3:
            await asyncio.sleep(0.01)
    cluster.workers["node1/gpu0"].busy = 0
    await task
    assert noted(cluster)[-1] == "ended"


async def test_what_is_rolled_back_is_in_again(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("drain", ["node1/gpu0"], timeout_seconds=0.05)
    with pytest.raises(PlanFailed):
        await carry_out(operator, plan)
    assert noted(cluster) == ["out", "in"]


async def test_a_record_that_cannot_be_written_stops_no_plan(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    plan = await operator.plan("stop", ["node1/gpu0"])
    cluster.during_systemctl = lambda: setattr(cluster, "transaction_cuts", 99)
    await carry_out(operator, plan)
    assert cluster.workers["node1/gpu0"].active == "inactive"


def leave(cluster: FakeCluster, *addresses: str) -> None:
    """A plan of Ann's was killed with these out."""
    for address in addresses:
        text = f"server {address};".encode()
        cluster.files[CONF] = cluster.files[CONF].replace(text, text[:-1] + b" down;")
    cluster.left = tuple(
        LeftDrained("llama_cluster", address, "p1", "ann@laptop", "roll node1/*", 12)
        for address in addresses
    )


def test_a_leftover_says_who_when_and_what_to_do(cluster: FakeCluster) -> None:
    leave(cluster, "127.0.0.1:37081")
    snapshot = cluster.snapshot()
    (one,) = leftovers.find(snapshot.balancer, snapshot.members)
    assert str(one) == (
        "node1/gpu0 was left drained by ann@laptop 12 min ago (roll node1/*):"
        " llamatop recover puts it back"
    )
    cluster.files[CONF] = cluster.files[CONF].replace(b" down", b"")
    snapshot = cluster.snapshot()
    assert leftovers.find(snapshot.balancer, snapshot.members) == ()
    assert leftovers.find(None, ()) == ()


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0, "just now"), (119, "119 min ago"), (125, "2 h ago"), (4000, "2 days ago")],
)
def test_how_long_ago(minutes: int, words: str) -> None:
    assert leftovers.ago(minutes) == words


async def test_recover_waits_for_health_and_puts_back(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    leave(cluster, "127.0.0.1:37081", "127.0.0.1:37083")
    plan = await operator.plan("recover", [])
    kinds = [step.kind for step in plan.steps]
    assert kinds == ["wait-healthy", "wait-healthy", "membership"]
    assert "node1/gpu0 was drained by ann@laptop 12 min ago (roll node1/*)" in plan.text()
    await carry_out(operator, plan)
    assert not any(cluster.states().values())
    assert noted(cluster) == ["in"]
    again = await operator.plan("recover", [])
    assert (again.steps, len(again.nothing)) == ((), 1)


async def test_recover_of_some_leaves_the_rest(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    leave(cluster, "127.0.0.1:37081", "127.0.0.1:37083")
    plan = await operator.plan("recover", ["node2/*"])
    assert plan.targets == ("node2/gpu0",)


def _stopped(cluster: FakeCluster) -> None:
    cluster.workers["node1/gpu0"].active = "inactive"


def _uncertain(cluster: FakeCluster) -> None:
    cluster.workers["node1/gpu0"].certain = False


@pytest.mark.parametrize(
    ("scene", "says"),
    [(_stopped, "it does not run (inactive)"), (_uncertain, "not certain which worker")],
)
async def test_what_cannot_serve_stays_out_and_is_named(
    cluster: FakeCluster,
    operator: ClusterOperator,
    scene: Callable[[FakeCluster], None],
    says: str,
) -> None:
    leave(cluster, "127.0.0.1:37081")
    scene(cluster)
    plan = await operator.plan("recover", [])
    assert (plan.steps, plan.nothing) == ((), ())
    assert says in plan.stays[0]
    assert f"! {plan.stays[0]}" in plan.text()


async def test_what_is_not_asked_for_does_not_make_it_fail(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    leave(cluster, "127.0.0.1:37081", "127.0.0.1:37083")
    _uncertain(cluster)
    assert (await operator.plan("recover", ["node1/*"])).stays != ()
    plan = await operator.plan("recover", ["node2/*"])
    assert (plan.targets, plan.stays) == (("node2/gpu0",), ())
    assert "127.0.0.1:37081 of llama_cluster stays drained" in plan.warnings[0]


async def test_recover_repairs_what_was_killed(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.killed = {CONF: "swapped"}
    plan = await operator.plan("recover", [])
    (step,) = plan.steps
    hidden = "/etc/nginx/conf.d/.llama.conf.llamatop-"
    assert [str(command) for command in step.commands] == [
        f"mv -f -T -- {hidden}old {CONF}",
        f"rm -f -- {hidden}new {hidden}old",
        "nginx -t",
        "systemctl --no-ask-password reload -- nginx.service",
    ]
    before = dict(cluster.files)
    await carry_out(operator, plan)
    assert (cluster.files, cluster.reloads) == (before, 1)


async def test_recover_waits_for_nobody_who_holds_the_lock(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    cluster.look_fails = ("lock", "locked by bob@desk: roll (pid 7)")
    with pytest.raises(Refused, match="node1: locked by bob@desk"):
        await operator.plan("recover", [])


async def test_of_two_at_once_one_puts_back_and_the_other_says_that_it_is_in(
    cluster: FakeCluster, operator: ClusterOperator
) -> None:
    whole = cluster.files[CONF]
    leave(cluster, "127.0.0.1:37081")
    first, second = [await operator.plan("recover", []) for _ in range(2)]
    await carry_out(operator, first)
    with pytest.raises(PlanFailed, match=r"37081 was put in in llama_cluster by another hand"):
        await carry_out(operator, second)
    assert (cluster.files[CONF], cluster.reloads) == (whole, 1)
    assert "no plan left a member drained" in (await operator.plan("recover", [])).nothing[0]


async def test_two_in_step_both_find_it_in(cluster: FakeCluster, operator: ClusterOperator) -> None:
    """Each has looked before the other writes."""
    whole = cluster.files[CONF]
    leave(cluster, "127.0.0.1:37081", "127.0.0.1:37083")
    plans = [await operator.plan("recover", []) for _ in range(2)]
    ends = await asyncio.gather(*(carry_out(operator, plan) for plan in plans))
    assert [results[-1].state for results in ends] == ["done", "done"]
    assert cluster.files[CONF] == whole


def test_two_programs_at_once_write_it_once(real: RealNginx) -> None:
    real.target.write_bytes(DOWN)
    request = real.request(after=UPSTREAM, drains=moves(out=False), lock_seconds=30)
    both = [real.begin(request) for _ in range(2)]
    told = [[event["event"] for event in transaction] for transaction in both]
    assert [events[-1] for events in told] == ["done", "done"]
    assert sorted("written" in events for events in told) == [False, True]
    assert (real.target.read_bytes(), real.valid()) == (UPSTREAM, True)
    assert real.leftovers() == []
    assert {event for event, _ in written(real)} == {"in"}

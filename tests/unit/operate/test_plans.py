"""What plans say: their steps, exact commands and diffs, and what the guards refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop.errors import NodeError, Refused, UsageError
from llamatop.model.plan import Action, Plan
from tests.unit.operate.fakes import CONF, MAIN, FakeCluster, FakeWorker


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster.two_by_two()


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def kinds(plan: Plan) -> list[str]:
    return [step.verb or step.kind for step in plan.steps]


def drain(cluster: FakeCluster, *addresses: str) -> None:
    for address in addresses:
        line = f"server {address};".encode()
        cluster.files[CONF] = cluster.files[CONF].replace(line, line[:-1] + b" down;")


async def test_restart_of_a_serving_member_drains_and_undrains(
    cluster: FakeCluster, audit: Path
) -> None:
    plan = await cluster.operator(audit).plan("restart", ["node1/gpu0"])
    assert kinds(plan) == ["membership", "wait-drained", "restart", "wait-healthy", "membership"]
    assert [edit.down for edit in plan.steps[0].edits] == [True]
    assert [edit.down for edit in plan.steps[4].edits] == [False]
    assert plan.steps[4].files[0].after == cluster.files[CONF]
    assert plan.steps[0].files[0].after == plan.steps[4].files[0].before
    assert plan.cuts_requests == 0
    assert plan.steps[0].node == "node1"
    text = plan.text()
    assert "-    server 127.0.0.1:37081;\n" in text
    assert "+    server 127.0.0.1:37081 down;\n" in text
    assert "$ systemctl --no-ask-password restart -- llama-server-gpu0.service" in text
    assert "$ nginx -t\n" in text
    assert f"$ mv -f -T -- /etc/nginx/conf.d/.llama.conf.llamatop-new {CONF}" in text


async def test_a_reload_that_would_cut_streams_is_told(cluster: FakeCluster, audit: Path) -> None:
    operator = cluster.operator(audit)
    assert (await operator.plan("restart", ["node1/gpu0"])).warnings == ()
    cluster.files[MAIN] += b"worker_shutdown_timeout 2s; http { worker_shutdown_timeout 9s; }"
    plan = await operator.plan("restart", ["node1/gpu0"])
    assert plan.warnings == (
        "nginx has worker_shutdown_timeout 2s: the reload cuts longer streams",
    )


async def test_the_cluster_files_own_commands_take_the_place_of_nginxs(
    cluster: FakeCluster, audit: Path
) -> None:
    cluster.root = False
    cluster.test = ("docker", "exec", "edge", "nginx", "-t")
    cluster.reload = ("/opt/bin/reload edge",)
    operator = cluster.operator(audit)
    plan = await operator.plan("drain", ["node1/gpu0"])
    commands = [str(command) for command in plan.steps[0].commands]
    assert "docker exec edge nginx -t" in commands
    assert "'/opt/bin/reload edge'" in commands
    assert not any("systemctl" in command or "sudo -n nginx" in command for command in commands)
    assert [result async for result in operator.execute(plan)]
    (request,) = cluster.asked
    assert (request["test"], request["reload"]) == (list(cluster.test), list(cluster.reload))
    assert request["own_reload"] is True


async def test_a_plan_alone_changes_nothing(cluster: FakeCluster, audit: Path) -> None:
    before = dict(cluster.files)
    await cluster.operator(audit).plan("stop", ["node1/gpu0"])
    assert cluster.files == before
    assert {command.split()[0] for _, command in cluster.ran} <= {"id", "readlink", "cat"}
    assert not audit.exists()


async def test_a_shell_that_prints_at_login_is_named(cluster: FakeCluster, audit: Path) -> None:
    cluster.noise = b"Welcome {\n"
    with pytest.raises(
        NodeError, match=r"its shell prints text before .* start-up files print noth"
    ):
        await cluster.operator(audit).plan("stop", ["node1/gpu0"])


async def test_several_stop_after_one_edit_and_restart_one_by_one(
    cluster: FakeCluster, audit: Path
) -> None:
    operator = cluster.operator(audit)
    plan = await operator.plan("stop", ["node1/*"])
    assert kinds(plan) == ["membership", "wait-drained", "wait-drained", "stop", "stop"]
    assert plan.steps[0].diff.count("\n+ ") == 2
    plan = await operator.plan("restart", ["node1/gpu1", "node2/gpu1"])
    one = ["membership", "wait-drained", "restart", "wait-healthy", "membership"]
    assert kinds(plan) == one * 2
    assert plan.steps[5].edits[0].before == plan.steps[0].edits[0].before


async def test_now_skips_the_drain_and_counts_what_it_cuts(
    cluster: FakeCluster, audit: Path
) -> None:
    cluster.workers["node1/gpu0"].busy, cluster.workers["node1/gpu0"].deferred = 2, 3
    plan = await cluster.operator(audit).plan("stop", ["node1/gpu0"], now=True)
    assert kinds(plan) == ["stop"]
    assert plan.cuts_requests == 5
    assert "this cuts 5 requests" in plan.text()
    cluster.workers["node1/gpu0"].busy = None
    plan = await cluster.operator(audit).plan("stop", ["node1/gpu0"], now=True)
    assert plan.cuts_requests is None


async def test_a_drained_member_is_not_put_in_by_restart(cluster: FakeCluster, audit: Path) -> None:
    drain(cluster, "127.0.0.1:37081")
    operator = cluster.operator(audit)
    assert kinds(await operator.plan("restart", ["node1/gpu0"])) == ["restart", "wait-healthy"]
    cluster.workers["node1/gpu0"].busy = 1
    plan = await operator.plan("restart", ["node1/gpu0"])
    assert kinds(plan) == ["wait-drained", "restart", "wait-healthy"]
    assert plan.cuts_requests == 0


@pytest.mark.parametrize(
    ("action", "prepare", "says"),
    [
        ("start", lambda c: None, "node1/gpu0 runs already"),
        ("stop", lambda c: setattr(c.workers["node1/gpu0"], "active", "inactive"), "does not run"),
        ("drain", lambda c: drain(c, "127.0.0.1:37081"), "drained already"),
        ("undrain", lambda c: None, "node1/gpu0 is in already"),
        ("enable", lambda c: None, "node1/gpu0 is enabled already"),
        ("disable", lambda c: setattr(c.workers["node1/gpu0"], "enabled", "static"), "is static"),
        ("drain", lambda c: c.files.update({CONF: b"upstream u { server a; }"}), "in no upstream"),
    ],
)
async def test_nothing_to_do_is_said(
    cluster: FakeCluster,
    audit: Path,
    action: str,
    prepare: Callable[[FakeCluster], None],
    says: str,
) -> None:
    prepare(cluster)
    plan = await cluster.operator(audit).plan(action, ["node1/gpu0"])
    assert plan.steps == ()
    assert says in " ".join(plan.nothing)


async def test_undrain_waits_for_health_first(cluster: FakeCluster, audit: Path) -> None:
    drain(cluster, "127.0.0.1:37083")
    operator = cluster.operator(audit)
    plan = await operator.plan("undrain", ["node2/gpu0"])
    assert kinds(plan) == ["wait-healthy", "membership"]
    assert plan.steps[1].node == "node1"
    cluster.workers["node2/gpu0"].active = "failed"
    with pytest.raises(Refused, match="start it first, or --force"):
        await operator.plan("undrain", ["node2/gpu0"])
    plan = await operator.plan("undrain", ["node2/gpu0"], force=True)
    assert kinds(plan) == ["membership"]


@pytest.mark.parametrize("action", ["drain", "stop", "restart"])
async def test_the_last_member_in_stays(cluster: FakeCluster, audit: Path, action: str) -> None:
    drain(cluster, "127.0.0.1:37082", "127.0.0.1:37083", "127.0.0.1:37084")
    operator = cluster.operator(audit)
    with pytest.raises(Refused, match="last member in of upstream llama_cluster; --force"):
        await operator.plan(action, ["node1/gpu0"])
    plan = await operator.plan(action, ["node1/gpu0"], force=True)
    assert any("last member in" in warning for warning in plan.warnings)
    assert plan.forced


async def test_all_that_is_in_cannot_leave_together(cluster: FakeCluster, audit: Path) -> None:
    with pytest.raises(Refused, match="all that is in of upstream"):
        await cluster.operator(audit).plan("drain", ["*"])


async def test_a_member_that_cannot_serve_does_not_count(cluster: FakeCluster, audit: Path) -> None:
    for name in ("node1/gpu1", "node2/gpu0", "node2/gpu1"):
        cluster.workers[name].health = "unreachable"
    with pytest.raises(Refused, match="last member in"):
        await cluster.operator(audit).plan("drain", ["node1/gpu0"])


async def test_the_last_worker_with_a_model_stays(cluster: FakeCluster, audit: Path) -> None:
    cluster.workers["node1/gpu0"].model = "big"
    with pytest.raises(Refused, match="no other member in of llama_cluster has model big; --force"):
        await cluster.operator(audit).plan("drain", ["node1/gpu0"])


async def test_an_uncertain_membership_is_refused_with_what_to_write(
    cluster: FakeCluster, audit: Path
) -> None:
    cluster.workers["node2/gpu0"].certain = False
    operator = cluster.operator(audit)
    with pytest.raises(Refused, match='write member = "ADDRESS" under its'):
        await operator.plan("drain", ["node2/gpu0"])
    with pytest.raises(Refused, match="--now skips the drain"):
        await operator.plan("stop", ["node2/gpu0"])
    assert kinds(await operator.plan("stop", ["node2/gpu0"], now=True)) == ["stop"]


async def test_old_figures_are_refused(cluster: FakeCluster, audit: Path) -> None:
    cluster.age_seconds = 3.5
    with pytest.raises(Refused, match=r"3\.5 s old, more than 3 ticks"):
        await cluster.operator(audit).plan("stop", ["node1/gpu0"])
    cluster.age_seconds = 0.0
    cluster.silent = {"node2"}
    with pytest.raises(Refused, match="node2 does not answer: no answer for 9 s"):
        await cluster.operator(audit).plan("stop", ["node2/gpu0"])


async def test_a_node_without_ssh_is_refused(cluster: FakeCluster, audit: Path) -> None:
    cluster.workers["edge/x"] = FakeWorker("x.service", None)
    cluster.http_only = {"edge"}
    with pytest.raises(Refused, match="edge has no ssh"):
        await cluster.operator(audit).plan("stop", ["edge/x"])


async def test_an_unknown_name_is_answered_with_the_nearest(
    cluster: FakeCluster, audit: Path
) -> None:
    with pytest.raises(UsageError, match="no worker or unit is called node1/gpu7; did you mean"):
        await cluster.operator(audit).plan("stop", ["node1/gpu7"])


async def test_a_tunnel_drains_what_it_carries(cluster: FakeCluster, audit: Path) -> None:
    plan = await cluster.operator(audit).plan("restart", ["node1/llama-tunnel"])
    waits = ["wait-drained", "wait-drained"]
    assert kinds(plan) == ["membership", *waits, "restart", "wait-healthy", "membership"]
    assert [step.worker for step in plan.steps[1:3]] == ["node2/gpu0", "node2/gpu1"]
    assert plan.steps[0].edits[0].addresses == ("127.0.0.1:37083", "127.0.0.1:37084")


async def test_nginx_itself_goes_only_when_it_must(cluster: FakeCluster, audit: Path) -> None:
    operator = cluster.operator(audit)
    with pytest.raises(Refused, match="cuts 0 requests that run through it; --force"):
        await operator.plan("stop", ["node1/nginx.service"])
    assert kinds(await operator.plan("restart", ["node1/nginx"])) == ["restart", "wait-healthy"]
    cluster.workers["node2/gpu0"].busy = 2
    with pytest.raises(Refused, match="cuts 2 requests that run through it; --now"):
        await operator.plan("restart", ["node1/nginx"])
    plan = await operator.plan("restart", ["node1/nginx"], now=True)
    assert plan.cuts_requests == 2


async def test_nginx_that_does_not_run_cuts_nothing(cluster: FakeCluster, audit: Path) -> None:
    cluster.nginx_active = "inactive"
    cluster.workers["node2/gpu0"].busy = 2
    plan = await cluster.operator(audit).plan("restart", ["node1/nginx"])
    assert (plan.warnings, plan.cuts_requests) == ((), 0)


async def test_without_a_balancer_a_stop_says_what_it_cuts(
    cluster: FakeCluster, audit: Path
) -> None:
    cluster.balancer = False
    cluster.workers["node1/gpu0"].busy = 1
    operator = cluster.operator(audit)
    plan = await operator.plan("stop", ["node1/gpu0"])
    assert (kinds(plan), plan.cuts_requests) == (["stop"], 1)
    with pytest.raises(Refused, match="no balancer"):
        await operator.plan("drain", ["node1/gpu0"])


async def test_sudo_stands_before_what_changes_and_a_missing_right_is_found_first(
    cluster: FakeCluster, audit: Path
) -> None:
    cluster.root = False
    plan = await cluster.operator(audit).plan("restart", ["node1/gpu0"])
    commands = [str(command) for step in plan.steps for command in step.commands]
    assert commands
    assert all(command.startswith("sudo -n ") for command in commands)
    cluster.sudo_refuses = "restart"
    with pytest.raises(NodeError, match=r"systemctl --no-ask-password restart .* nothing was beg"):
        await cluster.operator(audit).plan("restart", ["node1/gpu0"])


@pytest.mark.parametrize("action", ["start", "restart", "roll"])
async def test_a_unit_file_that_changed_is_read_by_systemd_first(
    cluster: FakeCluster, audit: Path, action: Action
) -> None:
    for name in ("node1/gpu0", "node1/gpu1"):
        cluster.workers[name].changed_on_disk = True
        if action == "start":
            cluster.workers[name].active = "inactive"
    plan = await cluster.operator(audit).plan(action, ["node1/*", "node2/gpu0"])
    assert kinds(plan)[0] == "daemon-reload"
    assert kinds(plan).count("daemon-reload") == 1, "once a node"
    assert str(plan.steps[0].commands[0]) == "systemctl --no-ask-password daemon-reload"
    assert "node1/gpu0, node1/gpu1" in plan.steps[0].title


async def test_a_plan_states_what_it_takes_for_granted(cluster: FakeCluster, audit: Path) -> None:
    drain(cluster, "127.0.0.1:37084")
    plan = await cluster.operator(audit).plan("restart", ["node1/gpu0", "node2/gpu1"])
    assert [str(one) for one in plan.expects] == [
        "node1/gpu0: active, main process 100, 127.0.0.1:37081 up in llama_cluster",
        "node2/gpu1: active, main process 201, 127.0.0.1:37084 down in llama_cluster",
    ]
    assert f"  if {plan.expects[0]}\n" in plan.text()


async def test_the_file_itself_says_who_is_in(cluster: FakeCluster, audit: Path) -> None:
    cluster.frozen = cluster.snapshot()
    drain(cluster, "127.0.0.1:37081")
    assert kinds(await cluster.operator(audit).plan("stop", ["node1/gpu0"])) == ["stop"]


async def test_a_member_that_was_put_in_a_moment_ago_is_drained_first(
    cluster: FakeCluster, audit: Path
) -> None:
    before = cluster.files[CONF]
    drain(cluster, "127.0.0.1:37081")
    cluster.frozen = cluster.snapshot()
    cluster.files[CONF] = before
    plan = await cluster.operator(audit).plan("stop", ["node1/gpu0"])
    assert kinds(plan) == ["membership", "wait-drained", "stop"]

"""Every rule with a case that fires and a near one that must not, by the findings' ids.

The cases of cards, placement and platform are listed in their own files and proved here.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamatop.advise.dead import HEALTH
from llamatop.advise.doctor import RULES, judge
from llamatop.advise.finding import Rule
from llamatop.model.cluster import ClusterSnapshot, Rights
from llamatop.model.observed import BalancerSample, Launch
from llamatop.model.rules import IDS
from tests.screens.clusters import well
from tests.unit.advise import (
    test_access,
    test_balancing,
    test_dead,
    test_fitting,
    test_gpus,
    test_placement,
    test_platform,
    test_tunnels,
    test_units,
)
from tests.unit.advise.boards import found, told, with_card, with_worker
from tests.unit.advise.test_balancing import GOOD, snapshot
from tests.unit.advise.test_servers import sampled, seen, worker

Pair = tuple[ClusterSnapshot, ClusterSnapshot]
TOPICS = (test_gpus, test_placement, test_platform)
FIRING = [case for topic in TOPICS for case in topic.FIRING]
SILENT = [case for topic in TOPICS for case in topic.SILENT]


@pytest.mark.parametrize(("rule", "snapshot", "place", "severity", "evidence"), FIRING)
def test_it_fires(
    rule: Rule, snapshot: ClusterSnapshot, place: str, severity: str, evidence: str
) -> None:
    (one,) = found(rule, snapshot)
    assert (one.place, one.severity) == (place, severity)
    assert evidence in one.evidence


@pytest.mark.parametrize(("rule", "snapshot"), SILENT)
def test_the_near_case_does_not(rule: Rule, snapshot: ClusterSnapshot) -> None:
    assert found(rule, snapshot) == []


def by_rule() -> dict[str, Pair]:
    """From the lists above: the first that fires, and the first near one of the same rule."""
    near: dict[Rule, ClusterSnapshot] = {}
    for rule, quiet in SILENT:
        near.setdefault(rule, quiet)
    pairs: dict[str, Pair] = {}
    for rule, fires, *_ in FIRING:
        (one,) = found(rule, fires)
        pairs.setdefault(one.id, (fires, near.get(rule, told())))
    return pairs


def dead(membership: str) -> ClusterSnapshot:
    base = well()
    first = replace(test_dead.dead_ones()[0][0], membership=membership)  # type: ignore[arg-type]
    return replace(base, workers=(first, *base.workers[1:]))


def nginx(old: str, fires: str, near: str) -> Pair:
    assert old in GOOD
    return snapshot(GOOD.replace(old, fires)), snapshot(GOOD.replace(old, near))


def unit(fires: dict[str, object], near: dict[str, object]) -> Pair:
    return test_units.with_unit(**fires), test_units.with_unit(**near)


def cases() -> dict[str, Pair]:
    base, one = well(), worker()
    first, second = base.nodes
    launched = Launch("process", host="0.0.0.0", api_key=False)
    narrow = Launch("process", parallel=2, context_tokens=8192)
    full = worker(queued_seconds=60.0)
    hung = sampled(worker(age_seconds=61.0), health="busy")
    known = (test_balancing.worker("a", 37081, "in"), test_balancing.worker("b", 37082, "in"))
    pairs: dict[str, Pair] = {
        "worker-dead-in-upstream": (dead("in"), dead("down")),
        "node-lost": (
            replace(base, nodes=(first, replace(second, reachable=False, fault="no answer"))),
            replace(base, nodes=(first, replace(second, reachable=False, fault=None))),
        ),
        "nginx-down": (
            replace(base, balancer=BalancerSample(running=False)),
            replace(base, balancer=BalancerSample(running=None)),
        ),
        "host-key": (
            test_access.lost(test_access.said()),
            test_access.lost("it refuses the connection"),
        ),
        "sudo-rights": (
            test_access.allowed(Rights(2, ("nginx -t",), "no")),
            test_access.allowed(Rights(2)),
        ),
        "tunnel-down": (
            test_tunnels.cluster(**test_tunnels.DEAD),
            test_tunnels.cluster("down", **test_tunnels.DEAD),
        ),
        "tunnel-no-keepalive": (
            test_tunnels.cluster(keepalive=False),
            test_tunnels.cluster(keepalive=None),
        ),
        "tunnel-astray": (
            test_tunnels.led("L", "127.0.0.1:37180"),
            test_tunnels.led("L", "127.0.0.1:37080"),
        ),
        "member-wrong-worker": (
            test_tunnels.cluster(expected="node2/gpu0"),
            test_tunnels.cluster(),
        ),
        "process-outdated": (
            test_units.with_launch(outdated=("--port",)),
            test_units.with_launch(outdated=None),
        ),
        "unit-no-restart": unit({"restart_policy": "no"}, {"restart_policy": None}),
        "unit-restarts": unit(
            {"restarts": 3, "since": test_units.ago(120)},
            {"restarts": 3, "since": test_units.ago(7200)},
        ),
        "unit-not-enabled": unit({"unit_file_state": "disabled"}, {"unit_file_state": "static"}),
        "unit-changed": unit({"need_daemon_reload": True}, {"need_daemon_reload": None}),
        "unit-before-persistenced": unit(
            {"after_persistenced": False}, {"after_persistenced": None}
        ),
        "unit-runs-as-root": unit({"user": "root"}, {"user": "llama"}),
        "nginx-not-least-conn": nginx("least_conn;", "", "random two least_conn;"),
        "nginx-buffering": nginx("proxy_buffering off;", "", "proxy_buffering off; gzip on;"),
        "nginx-next-upstream": nginx(
            "proxy_next_upstream off;", "", "proxy_next_upstream error off;"
        ),
        "nginx-read-timeout": nginx("600s", "299s", "300s"),
        "nginx-keepalive-unused": nginx(
            "least_conn;",
            "least_conn; keepalive 8;",
            "least_conn;",
        ),
        "nginx-max-fails": nginx(
            "next_upstream off",
            "next_upstream http_503 non_idempotent",
            "next_upstream http_503",
        ),
        "nginx-member-silent": nginx("37082;", "37999;", "37999 down;"),
        "nginx-member-twice": nginx(
            "37081;", "37081; server localhost:37082;", "37081; server localhost:37082 down;"
        ),
        "nginx-open": nginx("127.0.0.1:8080", "8080", "[::1]:8080"),
        "nginx-worker-unlisted": (
            snapshot(workers=(*known, test_balancing.worker("c", 37083, "absent"))),
            snapshot(workers=(*known, test_balancing.worker("c", 37083, "down"))),
        ),
        "llama-server-open": (
            seen(worker(launch=launched)),
            seen(worker(launch=replace(launched, api_key=True))),
        ),
        "llama-server-no-metrics": (
            seen(sampled(one, metrics=False)),
            seen(sampled(one, metrics=None)),
        ),
        "llama-server-context": (
            seen(worker(launch=narrow, slot_context=2048)),
            seen(worker(launch=narrow, slot_context=4096)),
        ),
        "llama-server-stuck": (seen(hung), seen(replace(hung, age_seconds=59.0))),
        "llama-server-queue": (seen(full), seen(worker(queued_seconds=29.0))),
        "llama-server-more-slots": (seen(full, used=17), seen(full, used=18)),
        "llama-server-models-differ": (
            seen(one, worker("b", model="other")),
            seen(one, worker("b", model=None)),
        ),
        "llama-server-contexts-differ": (
            seen(one, worker("b", slot_context=2048, launch=Launch())),
            seen(one, worker("b", slot_context=None, launch=Launch())),
        ),
        "llama-server-keys-differ": (
            seen(one, worker("b", launch=Launch(api_key=True))),
            seen(one, worker("b", launch=Launch(api_key=None))),
        ),
        "split-fits-one-card": (
            test_fitting.cluster(test_fitting.worker(), test_fitting.running()),
            test_fitting.cluster(
                test_fitting.worker(), test_fitting.running(6 * test_fitting.GIGABYTE)
            ),
        ),
        "gpu-ecc": (with_card(ecc_uncorrected=2), with_card(ecc_uncorrected=0)),
        "model-on-network": (
            with_worker(confines={"model_filesystem": "nfs4"}),
            with_worker(confines={"model_filesystem": "ext4"}),
        ),
    }
    return {**by_rule(), **pairs}


CASES = cases()


def test_every_id_has_its_cases() -> None:
    assert set(CASES) == set(IDS)
    assert len(IDS) == len(set(IDS))


@pytest.mark.parametrize("rule", IDS)
def test_each_finding_comes_where_it_is_due_and_not_nearby(rule: str) -> None:
    fires, near = CASES[rule]
    assert fires != near
    ill, quiet = (judge(one, (*RULES, *HEALTH)) for one in (fires, near))
    assert ill.faults == quiet.faults == ()
    assert rule in {one.id for one in ill.findings}
    assert rule not in {one.id for one in quiet.findings}

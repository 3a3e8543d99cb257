"""Rules about units: each with a case that fires and near ones that must not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llamatop.advise import units
from llamatop.advise.finding import Finding, Mend, Rule
from llamatop.model.cluster import ClusterSnapshot, Membership
from tests.screens.clusters import NOW, node, unit, well, with_units

WORKER = "node1/gpu0"


def with_unit(membership: Membership = "in", **changes: Any) -> ClusterSnapshot:
    """A cluster that is well but for the unit of its first worker."""
    base = well()
    first, *others = base.workers
    changed = replace(first, unit=replace(first.unit, **changes), membership=membership)
    return replace(base, workers=(changed, *others))


def with_launch(**changes: Any) -> ClusterSnapshot:
    base = well()
    first, *others = base.workers
    sample = replace(first.sample, launch=replace(first.sample.launch, **changes))
    return replace(base, workers=(replace(first, sample=sample), *others))


def with_tunnel(**changes: Any) -> ClusterSnapshot:
    base = well()
    forwards = {"forwards": (f"L {base.members[-1].address}",)}
    tunnel = unit("tunnel-node2.service", "tunnel", "autossh", **{**forwards, **changes})
    return replace(base, nodes=(with_units(node("node1"), tunnel), base.nodes[1]))


def found(rule: Rule, snapshot: ClusterSnapshot) -> list[Finding]:
    return list(rule(snapshot))


def ago(seconds: float) -> float:
    return NOW.timestamp() - seconds


FIRING: list[tuple[Rule, dict[str, Any], str]] = [
    (units.no_restart, {"restart_policy": "no"}, "Restart=no"),
    (units.restarts, {"restarts": 3, "since": ago(120)}, "NRestarts=3, up for 120 s"),
    (
        units.restarts,
        {
            "restarts": 17,
            "active_state": "activating",
            "sub_state": "auto-restart",
            "membership": "down",
        },
        "NRestarts=17, SubState=auto-restart",
    ),
    (units.not_enabled, {"unit_file_state": "disabled"}, "UnitFileState=disabled"),
    (units.not_enabled, {"unit_file_state": "enabled-runtime"}, "enabled-runtime"),
    (
        units.changed,
        {"need_daemon_reload": True, "fragment_path": "/etc/systemd/system/x.service"},
        "NeedDaemonReload=yes (/etc/systemd/system/x.service)",
    ),
    (units.before_persistenced, {"after_persistenced": False}, "no After=nvidia-persistenced"),
    (units.as_root, {"user": "root"}, "User=root"),
]

SILENT: list[tuple[Rule, dict[str, Any]]] = [
    (units.no_restart, {"restart_policy": "on-failure"}),
    (units.no_restart, {"restart_policy": None}),
    (units.no_restart, {"restart_policy": "no", "active_state": "inactive"}),
    (units.restarts, {"restarts": 2, "since": ago(60)}),
    (units.restarts, {"restarts": 9, "since": ago(7200)}),
    (units.restarts, {"restarts": 9, "since": None}),
    (units.restarts, {"restarts": None}),
    # That nginx sends to it is another rule's, and worse.
    (
        units.restarts,
        {"restarts": 17, "active_state": "activating", "sub_state": "auto-restart"},
    ),
    (units.not_enabled, {"unit_file_state": "static"}),
    (units.not_enabled, {"unit_file_state": None}),
    (units.not_enabled, {"unit_file_state": "disabled", "active_state": "inactive"}),
    (units.changed, {"need_daemon_reload": False}),
    (units.changed, {"need_daemon_reload": True, "load_state": "not-found"}),
    (units.before_persistenced, {"after_persistenced": None}),
    (units.before_persistenced, {"after_persistenced": True}),
    (units.as_root, {"user": "llama"}),
    (units.as_root, {"user": None}),
]


@pytest.mark.parametrize(("rule", "changes", "evidence"), FIRING)
def test_it_fires(rule: Rule, changes: dict[str, Any], evidence: str) -> None:
    (finding,) = found(rule, with_unit(**changes))
    assert finding.place == WORKER
    assert evidence in finding.evidence


@pytest.mark.parametrize(("rule", "changes"), SILENT)
def test_it_does_not(rule: Rule, changes: dict[str, Any]) -> None:
    assert not found(rule, with_unit(**changes))


def test_a_crash_loop_is_an_error_and_a_unit_that_came_back_a_warning() -> None:
    loop = with_unit("down", restarts=17, active_state="activating", sub_state="auto-restart")
    back = with_unit(restarts=17, since=ago(30))
    assert [one.severity for one in found(units.restarts, loop)] == ["error"]
    assert [one.severity for one in found(units.restarts, back)] == ["warning"]


def test_a_process_older_than_its_unit_is_told_with_what_differs() -> None:
    differs = ("--ctx-size (runs with 8192, now 4096)",)
    (finding,) = found(units.outdated, with_launch(outdated=differs))
    assert "--ctx-size (runs with 8192, now 4096)" in finding.evidence
    assert finding.plan == Mend("restart", (WORKER,))
    assert not found(units.outdated, with_launch(outdated=None))
    assert not found(units.outdated, with_launch(outdated=()))


def test_a_unit_that_systemd_has_not_read_again_is_told_once() -> None:
    both = with_launch(outdated=("--port",))
    first, *others = both.workers
    first = replace(first, unit=replace(first.unit, need_daemon_reload=True))
    both = replace(both, workers=(first, *others))
    assert not found(units.outdated, both)
    assert len(found(units.changed, both)) == 1


def test_a_worker_without_cards_need_not_wait_for_them() -> None:
    snapshot = with_unit(after_persistenced=False)
    first, *others = snapshot.workers
    assert not found(
        units.before_persistenced, replace(snapshot, workers=(replace(first, gpus=()), *others))
    )


def test_a_tunnels_unit_is_judged_too() -> None:
    (finding,) = found(units.no_restart, with_tunnel(restart_policy="no"))
    assert finding.place == "node1/tunnel-node2"
    (finding,) = found(units.not_enabled, with_tunnel(unit_file_state="disabled"))
    assert finding.plan == Mend("enable", ("node1/tunnel-node2",))
    # What a tunnel may do is no matter of the server's rights.
    assert not found(units.as_root, with_tunnel(user="root"))
    crashing = {"restarts": 9, "active_state": "activating", "sub_state": "auto-restart"}
    # That its members are not reached is another rule's.
    assert not found(units.restarts, with_tunnel(**crashing))
    assert found(units.restarts, with_tunnel(restarts=9, since=ago(30)))


def test_a_tunnel_that_leads_to_no_member_is_nobodys_business() -> None:
    for forwards in (("R 127.0.0.1:2222",), ("L 127.0.0.1:5432",), ()):
        for rule in (units.no_restart, units.not_enabled):
            ill = with_tunnel(restart_policy="no", unit_file_state="disabled", forwards=forwards)
            assert not found(rule, ill)

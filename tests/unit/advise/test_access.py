"""Rules about access; the sentences are those that the transport says."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.advise import access
from llamatop.advise.doctor import judge
from llamatop.collect.link import sentence
from llamatop.errors import HostKeyFault, Unreachable
from llamatop.model.cluster import NO_SUDO, ClusterSnapshot, Rights
from llamatop.transport.host_keys import KnownHost, KnownKey, check
from llamatop.transport.ssh_config import HostConfig, SshOptions
from tests.screens.clusters import well

BLOB = b"\0\0\0\x0bssh-ed25519" + bytes(36)


def lost(fault: str | None, reachable: bool = False) -> ClusterSnapshot:
    base = well()
    return replace(
        base, nodes=(base.nodes[0], replace(base.nodes[1], reachable=reachable, fault=fault))
    )


def said(*keys: KnownKey) -> str:
    values = {"hostname": ["10.0.0.12"], "port": ["22"], "user": ["ops"]}
    config = HostConfig(("node2",), values, SshOptions())
    with pytest.raises(HostKeyFault) as caught:
        check("node2", "", KnownHost(config, ("10.0.0.12",), keys, ()), "ssh-ed25519", BLOB)
    return sentence(caught.value)


def key(marker: str, blob: bytes = BLOB) -> KnownKey:
    return KnownKey(Path("/home/ops/.ssh/known_hosts"), 3, "10.0.0.12", marker, "ssh-rsa", blob)


@pytest.mark.parametrize(
    "keys",
    [(), (key("", b"other"),), (key("@revoked"),), (key("@cert-authority", b"ca"),)],
    ids=["unknown", "changed", "revoked", "authority"],
)
def test_a_host_key_that_is_not_right(keys: tuple[KnownKey, ...]) -> None:
    (finding,) = access.host_key(lost(said(*keys)))
    assert finding.place == "node2"
    assert "SHA256:" in finding.evidence
    assert "; " not in finding.evidence
    assert finding.mend


def test_other_faults_are_none_of_it() -> None:
    refused = sentence(Unreachable("node2", "it refuses the connection", "is sshd running?"))
    assert not list(access.host_key(lost(refused)))
    assert not list(access.host_key(lost(None)))
    assert not list(access.host_key(lost(said(), reachable=True)))


def test_of_a_node_that_is_lost_only_that_is_told() -> None:
    snapshot = lost(said())
    workers = tuple(
        replace(worker, unit=replace(worker.unit, user="root")) for worker in snapshot.workers
    )
    found = judge(replace(snapshot, workers=workers)).findings
    assert {(one.id, one.place) for one in found} == {
        ("host-key", "node2"),
        ("unit-runs-as-root", "node1/gpu0"),
        ("unit-runs-as-root", "node1/gpu1"),
    }


def allowed(rights: Rights | None) -> ClusterSnapshot:
    base = well()
    return replace(base, nodes=(base.nodes[0], replace(base.nodes[1], rights=rights)))


def test_a_right_that_plans_would_need() -> None:
    lacking = ("nginx -t", "systemctl stop -- a.service", "systemctl start -- a.service")
    (finding,) = access.sudo_rights(allowed(Rights(9, lacking, "not in its sudoers")))
    assert (finding.place, finding.severity) == ("node2", "warning")
    assert finding.evidence.startswith("3 of 9 commands that plans would run as root may not be")
    assert "`nginx -t`, `systemctl stop -- a.service` and 1 more" in finding.evidence
    assert "llamatop sudoers --user USER --node node2" in finding.mend


def test_who_may_do_nothing_at_all_may_be_there_to_watch() -> None:
    (finding,) = access.sudo_rights(allowed(Rights(1, ("nginx -t",), "a password is required")))
    assert finding.severity == "info"
    assert "(a password is required): `nginx -t`" in finding.evidence


def test_where_there_is_no_sudo_it_is_to_be_installed_first() -> None:
    rights = Rights(9, ("nginx -t", "nginx -s reload"), NO_SUDO)
    (finding,) = access.sudo_rights(allowed(rights))
    assert "(there is no sudo): `nginx -t`" in finding.evidence
    assert finding.mend.startswith("apt-get install sudo there, and ")
    assert "llamatop sudoers --user USER --node node2" in finding.mend
    assert finding.mend.endswith("or connect as root")


@pytest.mark.parametrize("rights", [None, Rights(9), Rights(0)])
def test_rights_that_suffice_or_that_nobody_looked_for(rights: Rights | None) -> None:
    assert not list(access.sudo_rights(allowed(rights)))

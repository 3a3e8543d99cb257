"""Host keys that do not fit and rights that lack: told before anything is sent or changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nodes.balancer import UPSTREAM_FILE
from tests.nodes.cluster import GPU0, Cluster
from tests.nodes.keys import new_key
from tests.nodes.watch import llamatop


def logins(cluster: Cluster, node: str) -> int:
    """How often sshd of a node let somebody in since it booted."""
    journal = cluster[node].run(["journalctl", "-u", "ssh", "-o", "cat"]).stdout
    return journal.count("Accepted publickey")


def forget(directory: Path, cluster: Cluster, node: str) -> None:
    """Take a node's lines out of known_hosts."""
    file = directory / "known_hosts"
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if cluster[node].address not in line]
    assert len(kept) == len(lines) - 1
    file.write_text("".join(kept))


def mistake(directory: Path, cluster: Cluster, node: str) -> None:
    """Have known_hosts name another key for a node."""
    forget(directory, cluster, node)
    key = " ".join(new_key(directory / "other", "other").split()[:2])
    with (directory / "known_hosts").open("a") as file:
        file.write(f"{node},{cluster[node].address} {key}\n")


def test_a_changed_host_key_is_that_nodes_fault_and_nothing_is_sent(
    cluster: Cluster, tmp_path: Path
) -> None:
    file = cluster.write_files(tmp_path)
    mistake(tmp_path, cluster, "node2")
    before = logins(cluster, "node2"), logins(cluster, "node1")
    done = llamatop("status", "--json", "-c", file)
    assert done.status == 1, done.stderr
    node = done.sample.node("node2")
    assert (node["reachable"], node["gpus"], node["workers"]) == (False, [], [])
    assert "ssh-keygen -R" in node["fault"]
    assert str(tmp_path / "known_hosts") in node["fault"], "the mend must name the right file"
    assert done.sample.node("node1")["fault"] is None
    assert [w["health"] for w in done.sample.node("node1")["workers"]] == ["ok", "ok"]
    assert logins(cluster, "node2") == before[0]
    assert logins(cluster, "node1") > before[1]


def test_an_unknown_host_key_is_not_accepted(cluster: Cluster, tmp_path: Path) -> None:
    file = cluster.write_files(tmp_path)
    forget(tmp_path, cluster, "node2")
    known = (tmp_path / "known_hosts").read_text()
    before = logins(cluster, "node2")
    done = llamatop("status", "--json", "-c", file)
    assert done.status == 1, done.stderr
    fault = done.sample.node("node2")["fault"]
    assert "host key" in fault
    assert "ssh " in fault, "the mend must name a command"
    assert logins(cluster, "node2") == before
    assert (tmp_path / "known_hosts").read_text() == known, "a key was accepted in silence"


def test_where_no_host_key_fits_nothing_is_reached(cluster: Cluster, tmp_path: Path) -> None:
    file = cluster.write_files(tmp_path)
    for node in ("node1", "node2"):
        mistake(tmp_path, cluster, node)
    done = llamatop("status", "-c", file)
    assert done.status == 3, done.stdout + done.stderr
    done = llamatop("watch", "--json", "--count", "1", "-c", file)
    assert done.status == 3, done.stdout + done.stderr
    done = llamatop("restart", "node2/gpu0", "--yes", "-c", file)
    assert done.status not in (0, 70)
    assert "ssh-keygen -R" in done.stderr


@pytest.mark.parametrize("action", ["drain", "restart", "stop"])
def test_without_sudo_nothing_is_begun(cluster: Cluster, tmp_path: Path, action: str) -> None:
    file = cluster.write_files(tmp_path)
    file.write_text(file.read_text().replace('ssh = "node1"', 'ssh = "node1-ops"'))
    node = cluster["node1"]
    before = node.read(UPSTREAM_FILE), node.systemctl("show", "-p", "MainPID", GPU0.unit)
    done = llamatop(action, "node1/gpu0", "--yes", "-c", file)
    assert done.status not in (0, 70), done.stdout
    assert "sudo" in done.stderr
    assert "node1" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 20
    assert (node.read(UPSTREAM_FILE), node.systemctl("show", "-p", "MainPID", GPU0.unit)) == before


def test_without_sudo_everything_is_seen(cluster: Cluster, tmp_path: Path) -> None:
    file = cluster.write_files(tmp_path)
    file.write_text(file.read_text().replace('ssh = "node', 'ssh = "node1-ops" #', 1))
    done = llamatop("status", "--json", "-c", file)
    assert done.status == 0, done.stdout + done.stderr
    assert [card["workers"] for card in done.sample.node("node1")["gpus"]] == [
        ["node1/gpu0"],
        ["node1/gpu1"],
    ]
    assert done.sample.worker("node1/gpu0")["membership"] == "in"

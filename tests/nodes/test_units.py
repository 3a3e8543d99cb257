"""Units that load, stop, start and crash: seen when others do it, and caused by llamatop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.watch import Watch, llamatop

TINY = replace(GPU0, model="tiny")
HEAVY = replace(GPU1, model="heavy")
BROKEN = replace(
    GPU0, unit="llama-server-broken.service", port=37083, model="tiny", extra="--no-such-flag"
)


@pytest.fixture(scope="module")
def node(installed: None) -> Iterator[Cluster]:
    """One node, `node1`, without a balancer: a tiny worker, one that loads long, one broken."""
    with Cluster() as cluster:
        cluster.add_node("node1", (TINY, HEAVY))
        # Not one of the cluster's workers: nobody may wait for it to be healthy.
        cluster["node1"].write(f"/etc/systemd/system/{BROKEN.unit}", BROKEN.text())
        cluster.power_on()
        yield cluster


@pytest.fixture(scope="module")
def file(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = node.write_files(tmp_path_factory.mktemp("units"))
    path.write_text(path.read_text().partition("[balancer]")[0])
    return path


@pytest.fixture(scope="module")
def watch(file: Path) -> Iterator[Watch]:
    with Watch(file) as begun:
        begun.wait("the worker", lambda sample: sample.worker("node1/gpu0")["health"] == "ok")
        yield begun


def test_a_worker_that_loads_is_loading(node: Cluster, watch: Watch) -> None:
    node["node1"].systemctl("restart", "--no-block", HEAVY.unit)
    loading = watch.wait("loading", lambda s: s.worker("node1/gpu1")["health"] == "loading")
    worker = loading.worker("node1/gpu1")
    assert (worker["unit_state"], worker["unit_sub_state"]) == ("active", "running")
    assert loading.worker("node1/gpu0")["health"] == "ok"
    loaded = watch.wait("loaded", lambda s: s.worker("node1/gpu1")["health"] == "ok", 60)
    assert loaded.at > loading.at


def test_stop_start_and_restart_by_hand_are_seen(node: Cluster, watch: Watch) -> None:
    machine = node["node1"]
    old = watch.ticks(1)[0].worker("node1/gpu0")
    machine.systemctl("restart", TINY.unit)
    new = watch.wait(
        "the new process",
        lambda s: (
            s.worker("node1/gpu0")["main_pid"] not in (None, old["main_pid"])
            and s.worker("node1/gpu0")["health"] == "ok"
        ),
    ).worker("node1/gpu0")
    assert new["main_pid"] == int(machine.systemctl("show", "-p", "MainPID", "--value", TINY.unit))
    assert new["since"] > old["since"]
    machine.systemctl("stop", TINY.unit)
    stopped = watch.wait(
        "stopped", lambda s: s.worker("node1/gpu0")["unit_state"] == "inactive"
    ).worker("node1/gpu0")
    assert stopped["unit_sub_state"] == "dead"
    assert stopped["main_pid"] is None
    assert stopped["generation_tokens_per_second"] is None
    unhealthy = watch.ticks(1)[0]
    assert unhealthy.json["healthy"] is False, "an enabled worker is stopped"
    machine.systemctl("start", TINY.unit)
    back = watch.wait("started", lambda s: s.worker("node1/gpu0")["health"] == "ok")
    assert back.worker("node1/gpu0")["unit_state"] == "active"
    assert "active (running) → inactive (dead)" in back.told


def test_stop_start_and_restart_are_caused_and_seen(
    node: Cluster, file: Path, watch: Watch
) -> None:
    def state() -> str:
        shown = node["node1"].systemctl("show", "-p", "ActiveState,MainPID", TINY.unit)
        return shown

    def told(key: str) -> object:
        return watch.ticks(1)[0].worker("node1/gpu0")[key]

    before = state()
    assert llamatop("restart", "node1/gpu0", "--dry-run", "-c", file).status == 0
    assert state() == before
    done = llamatop("restart", "node1/gpu0", "--yes", "-c", file)
    assert done.status == 0, done.stderr
    assert state() != before
    assert "ActiveState=active" in state()
    pid = int(node["node1"].systemctl("show", "-p", "MainPID", "--value", TINY.unit))
    watch.wait("the new process", lambda s: s.worker("node1/gpu0")["main_pid"] == pid)
    done = llamatop("stop", "node1/gpu0", "--yes", "-c", file)
    assert done.status == 0, done.stderr
    assert "ActiveState=inactive" in state()
    watch.wait("stopped", lambda s: s.worker("node1/gpu0")["unit_state"] == "inactive")
    again = llamatop("stop", "node1/gpu0", "--yes", "-c", file)
    assert (again.status, "nothing to do" in again.stdout + again.stderr) == (0, True), again
    done = llamatop("start", "node1/gpu0", "--yes", "-c", file)
    assert done.status == 0, done.stderr
    assert "ActiveState=active" in state()
    watch.wait("started", lambda s: s.worker("node1/gpu0")["health"] == "ok")


def test_a_crash_loop_is_seen(node: Cluster, watch: Watch) -> None:
    machine = node["node1"]
    machine.systemctl("start", "--no-block", BROKEN.unit)
    try:
        words = watch.wait(
            "auto-restart",
            lambda s: s.worker("node1/broken")["unit_sub_state"] == "auto-restart",
        ).worker("node1/broken")
        assert words["unit_state"] == "activating"
        first = watch.wait("a restart", lambda s: s.worker("node1/broken")["restarts"] >= 1)
        more = first.worker("node1/broken")["restarts"]
        later = watch.wait("more", lambda s: s.worker("node1/broken")["restarts"] >= more + 3)
        worker = later.worker("node1/broken")
        counted = int(machine.systemctl("show", "-p", "NRestarts", "--value", BROKEN.unit))
        assert worker["restarts"] <= counted
        assert f"{BROKEN.unit} was restarted by systemd" in later.told
        assert later.worker("node1/gpu0")["health"] == "ok"
    finally:
        machine.systemctl("stop", BROKEN.unit)
    watch.wait(
        "the end", lambda s: s.worker("node1/broken")["unit_sub_state"] in ("dead", "failed")
    )

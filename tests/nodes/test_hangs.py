"""What hangs on a node ages alone: the lines of all the rest come on time, and it heals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.watch import Sample, Watch, longest_gap

LATE_SECONDS = 4.0


@pytest.fixture(scope="module")
def watch(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with Watch(cluster.write_files(tmp_path_factory.mktemp("hangs"))) as begun:
        begun.wait("a healthy cluster", healthy)
        yield begun


def healthy(sample: Sample) -> bool:
    return sample.json["healthy"] is True and all(
        node["fault"] is None for node in sample.json["nodes"]
    )


def on_time(lines: list[Sample], *nodes: str) -> None:
    gap = longest_gap(lines)
    ages = [line.node(name)["age_seconds"] for line in lines for name in nodes]
    print(f"{len(lines)} lines, longest gap {gap:.2f} s, at most {max(ages):.2f} s old")
    assert gap < LATE_SECONDS
    assert max(ages) < LATE_SECONDS


def test_a_worker_that_hangs_ages_alone(cluster: Cluster, watch: Watch) -> None:
    watch.wait("a healthy cluster", healthy)
    cluster["node2"].freeze(GPU0.unit)
    try:
        hung = watch.wait(
            "the hang", lambda s: s.worker("node2/gpu0")["health"] not in ("ok", "busy")
        )
        lines = [hung, *watch.ticks(5)]
    finally:
        cluster["node2"].thaw(GPU0.unit)
    on_time(lines, "node1", "node2")
    for line in lines:
        worker = line.worker("node2/gpu0")
        assert worker["health"] == "unreachable"
        assert (worker["unit_state"], worker["main_pid"]) != (None, None), "systemd still knows it"
        assert line.json["healthy"] is False
        assert line.worker("node2/gpu1")["health"] == "ok"
        assert line.worker("node2/gpu1")["generation_tokens_per_second"] == 0
    assert lines[-1].worker("node2/gpu0")["fault"]
    assert lines[-1].worker("node2/gpu0")["generation_tokens_per_second"] is None
    watch.wait("it goes on", healthy)


def test_nvml_that_hangs_ages_alone(cluster: Cluster, watch: Watch) -> None:
    watch.wait("a healthy cluster", healthy)
    cluster.gpus["node2"].set_driver(hang=1)
    try:
        hung = watch.wait("the hang", lambda s: s.node("node2")["fault"])
        lines = [hung, *watch.ticks(4)]
    finally:
        cluster.gpus["node2"].set_driver(hang=None)
    on_time(lines, "node1", "node2")
    for line in lines:
        assert line.node("node2")["reachable"] is True
        assert line.node("node1")["fault"] is None
        assert [w["health"] for w in line.node("node2")["workers"]] == ["ok", "ok"]
    assert any(
        word in lines[-1].node("node2")["fault"].lower() for word in ("nvml", "driver", "gpu")
    )
    watch.wait("it goes on", healthy)


def test_systemctl_that_hangs_ages_alone(cluster: Cluster, watch: Watch) -> None:
    watch.wait("a healthy cluster", healthy)
    cluster["node2"].freeze_systemd()
    try:
        hung = watch.wait("the hang", lambda s: s.node("node2")["fault"])
        lines = [hung, *watch.ticks(4)]
    finally:
        cluster["node2"].thaw_systemd()
    on_time(lines, "node1", "node2")
    assert "systemctl" in lines[-1].node("node2")["fault"]
    for line in lines:
        assert line.node("node2")["reachable"] is True
        assert [w["health"] for w in line.node("node2")["workers"]] == ["ok", "ok"]
        assert len(line.node("node2")["gpus"]) == 2
    watch.wait("it goes on", healthy)


def test_a_lost_card_is_a_fault_of_that_card(cluster: Cluster, watch: Watch) -> None:
    watch.wait("a healthy cluster", healthy)
    cluster.gpus["node1"].set(1, lost=1)
    try:
        gone = watch.wait("the loss", lambda s: s.gpu("node1", 1)["fault"])
        lines = [gone, *watch.ticks(3)]
    finally:
        cluster.gpus["node1"].set(1, lost=None)
    on_time(lines, "node1", "node2")
    assert gone.json["healthy"] is False
    assert "lost" in gone.gpu("node1", 1)["fault"].lower()
    for line in lines:
        assert line.gpu("node1", 1)["fault"]
        assert line.gpu("node1", 1)["utilization_percent"] is None
        assert line.gpu("node1", 0)["fault"] is None
        assert line.gpu("node1", 0)["utilization_percent"] is not None
    back = watch.wait("it is back", lambda s: s.gpu("node1", 1)["fault"] is None)
    assert back.gpu("node1", 1)["name"] == "Tesla P40"
    watch.wait("a healthy cluster", healthy)


def test_everything_hangs_at_once_and_the_other_node_goes_on(
    cluster: Cluster, watch: Watch
) -> None:
    watch.wait("a healthy cluster", healthy)
    node = cluster["node2"]
    for unit in (GPU0.unit, GPU1.unit):
        node.freeze(unit)
    cluster.gpus["node2"].set_driver(hang=1)
    node.freeze_systemd()
    try:
        lines = watch.ticks(8)
    finally:
        node.thaw_systemd()
        cluster.gpus["node2"].set_driver(hang=None)
        for unit in (GPU0.unit, GPU1.unit):
            with suppress(Exception):
                node.thaw(unit)
    on_time(lines, "node1", "node2")
    assert {w["health"] for w in lines[-1].node("node2")["workers"]} == {"unreachable"}
    assert [w["health"] for w in lines[-1].node("node1")["workers"]] == ["ok", "ok"]
    assert lines[-1].node("node2")["host"]["memory_total_bytes"]
    watch.wait("a healthy cluster", healthy, 60)

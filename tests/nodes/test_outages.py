"""Machines that vanish and come back while one llamatop goes on watching."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.nodes.cluster import Cluster, two_by_two
from tests.nodes.watch import Sample, Watch, longest_gap

LATE_SECONDS = 4.0


@pytest.fixture(scope="module")
def own(installed: None) -> Iterator[Cluster]:
    """A 2x2 cluster of this file's own, whose second node is ill-treated."""
    with two_by_two() as cluster:
        cluster.power_on()
        cluster.wait_serving()
        yield cluster


@pytest.fixture(scope="module")
def watch(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with Watch(own.write_files(tmp_path_factory.mktemp("outages"))) as begun:
        begun.wait("both nodes", whole)
        yield begun


def whole(sample: Sample) -> bool:
    """Both nodes are read, all workers answer, all members are known."""
    return sample.json["healthy"] is True and all(
        node["reachable"]
        and node["age_seconds"] < LATE_SECONDS
        and [worker["health"] for worker in node["workers"]] == ["ok", "ok"]
        for node in sample.json["nodes"]
    )


def lost(sample: Sample) -> bool:
    node = sample.node("node2")
    return node["reachable"] is False and node["fault"]


def assert_the_rest_went_on(watch: Watch, first: int, since: Sample) -> None:
    """Lines came on time, node1 was never old in them, and node2's figures are not shown as new."""
    lines = watch.lines[first:]
    gap = longest_gap(lines)
    ages = [line.node("node1")["age_seconds"] for line in lines]
    print(f"{len(lines)} lines, longest gap {gap:.2f} s, node1 at most {max(ages):.2f} s old")
    assert gap < LATE_SECONDS
    assert max(ages) < LATE_SECONDS
    assert all(line.node("node1")["reachable"] for line in lines)
    assert since.json["healthy"] is False
    for worker in since.node("node2")["workers"]:
        assert worker["generation_tokens_per_second"] is None, "an old rate is shown as new"


def test_a_power_cut_and_the_return(own: Cluster, watch: Watch) -> None:
    first = len(watch.lines)
    own["node2"].cut_power()
    aged = watch.wait("node2 ages", lambda s: s.node("node2")["age_seconds"] > 3)
    assert aged.node("node2")["workers"], "the last figures stay"
    gone = watch.wait("node2 is lost", lost)
    own["node2"].power_on()
    own["node2"].wait_ready()
    back = watch.wait("node2 is back", whole, 60)
    assert "the node is back after a reboot" in back.told
    assert_the_rest_went_on(watch, first, gone)
    assert watch.process.poll() is None


def test_a_partition_and_its_end(own: Cluster, watch: Watch) -> None:
    watch.wait("both nodes", whole, 60)
    first = len(watch.lines)
    own["node2"].partition()
    try:
        gone = watch.wait("node2 is lost", lost)
        # Silence is noticed by the reader and by ssh, at about the same moment.
        assert re.search("nothing was heard of it|no answer for", gone.node("node2")["fault"])
        # Each further cause is one of the network too, in one sentence.
        for line in watch.ticks(3):
            assert line.node("node2")["fault"]
            assert "\n" not in line.node("node2")["fault"]
    finally:
        own["node2"].heal()
    watch.wait("node2 is back", whole, 60)
    assert_the_rest_went_on(watch, first, gone)


def test_a_shutdown_in_order_and_the_return(own: Cluster, watch: Watch) -> None:
    watch.wait("both nodes", whole, 60)
    first = len(watch.lines)
    own["node2"].power_off()
    gone = watch.wait("node2 is lost", lost)
    own["node2"].power_on()
    own["node2"].wait_ready()
    watch.wait("node2 is back", whole, 60)
    assert_the_rest_went_on(watch, first, gone)

"""When a member counts as drained: what is unknown is never taken for nothing."""

from __future__ import annotations

import pytest

from llamatop.model.plan import Step
from llamatop.operate.waits import drained
from tests.unit.operate.fakes import FakeCluster


def step(address: str) -> Step:
    members = (("llama_cluster", address),)
    unit = "llama-server-gpu0.service"
    return Step("wait-drained", "node1", "wait", worker="node1/gpu0", unit=unit, members=members)


@pytest.mark.parametrize(
    ("address", "connections", "done"),
    [
        ("127.0.0.1:37081", {}, True),
        ("127.0.0.1:37081", {"127.0.0.1:37081": 1}, False),
        ("127.0.0.1:37081", {"127.0.0.1:37082": 1}, True),
        ("[::1]:37081", {"[0:0:0:0:0:0:0:1]:37081": 1}, False),
        ("127.0.0.1", {"127.0.0.1:80": 1}, False),
        ("127.0.0.1:37081", None, True),
    ],
)
def test_connections_of_old_workers(
    address: str, connections: dict[str, int] | None, done: bool
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = connections
    assert drained(cluster.snapshot(), step(address)).done is done


@pytest.mark.parametrize(
    ("address", "connections", "done"),
    [
        ("gpu-box:37081", {}, True),
        ("gpu-box:37081", {"10.0.0.7:37081": 1}, False),
        ("unix:/run/llama.sock", {}, False),
    ],
)
def test_connections_to_a_name_or_a_socket_file_cannot_be_told(
    address: str, connections: dict[str, int], done: bool
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = connections
    cluster.workers["node1/gpu0"].busy = cluster.workers["node1/gpu0"].deferred = None
    assert drained(cluster.snapshot(), step(address)).done is done


@pytest.mark.parametrize(("busy", "deferred"), [(1, 0), (0, 1), (1, None), (None, 1)])
def test_whatever_is_known_to_run_counts(busy: int | None, deferred: int | None) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.workers["node1/gpu0"].busy = busy
    cluster.workers["node1/gpu0"].deferred = deferred
    assert drained(cluster.snapshot(), step("127.0.0.1:37081")).done is False


def test_a_worker_that_does_not_run_runs_nothing() -> None:
    cluster = FakeCluster.two_by_two()
    cluster.connections = None
    cluster.workers["node1/gpu0"].active = "failed"
    assert drained(cluster.snapshot(), step("127.0.0.1:37081")).done
    cluster.silent = {"node1"}
    verdict = drained(cluster.snapshot(), step("127.0.0.1:37081"))
    assert not verdict.done
    assert "node1 does not answer" in verdict.progress

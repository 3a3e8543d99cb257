"""Fixtures of real machines, and the rule of who may skip these tests: nobody in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nodes import packages
from tests.nodes.balancer import UPSTREAM_FILE
from tests.nodes.cluster import GPU0, GPU1, Cluster, two_by_two
from tests.nodes.run import Run
from tests.nodes.worker import Worker

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.nodes)


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = packages.why_not()
    if reason is None or item.get_closest_marker("nodes") is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"a test on real nodes may not be skipped in CI: {reason}", pytrace=False)
    pytest.skip(f"tests on real nodes: {reason}")


@pytest.fixture(scope="session")
def installed() -> None:
    """This machine has the packages that the nodes need."""
    packages.install()


@pytest.fixture(scope="session")
def cluster(installed: None) -> Iterator[Cluster]:
    """The 2x2 cluster, up and serving, shared by the tests of a session: leave it as it was."""
    with two_by_two() as made:
        made.power_on()
        made.wait_serving()
        yield made


@pytest.fixture(autouse=True)
def members_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test that failed left drained or stopped fails no test after it."""
    if "cluster" not in request.fixturenames:
        yield
        return
    shared: Cluster = request.getfixturevalue("cluster")
    balancer = shared["node1"]
    before = balancer.read(UPSTREAM_FILE)
    yield
    if balancer.read(UPSTREAM_FILE) == before:
        return
    balancer.write(UPSTREAM_FILE, before)
    balancer.systemctl("reload", "nginx")
    for record in (balancer.root / "var/tmp").glob("llamatop-drains-*"):
        record.unlink()
    for node in ("node1", "node2"):
        for worker in (GPU0, GPU1):
            shared[node].systemctl("start", worker.unit)


@pytest.fixture
def fresh_cluster(installed: None) -> Iterator[Cluster]:
    """A 2x2 cluster of the test's own, up and serving: do with it what you like."""
    with two_by_two() as made:
        made.power_on()
        made.wait_serving()
        yield made


@pytest.fixture
def empty_cluster(installed: None) -> Iterator[Cluster]:
    """A cluster without nodes: add them, then `power_on`."""
    with Cluster() as made:
        yield made


@pytest.fixture
def make_cluster(installed: None) -> Iterator[Callable[[Worker], Cluster]]:
    """Makes 2x2 clusters whose workers are all like the one given, off."""
    made: list[Cluster] = []

    def make(worker: Worker) -> Cluster:
        made.append(two_by_two(worker))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def run(installed: None) -> Iterator[Run]:
    """A run for machines made one by one."""
    with Run() as begun:
        yield begun

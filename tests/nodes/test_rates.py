"""Token rates against every token that clients received from a real server in half a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from llamatop import config
from llamatop.collect.collector import Collector
from llamatop.transport.machines import Machines
from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.load import Load
from tests.nodes.worker import Worker

SECONDS = 30
COUNTED = replace(GPU0, parallel=4, host="0.0.0.0")
UNCOUNTED = replace(GPU1, parallel=4, host="0.0.0.0", metrics=False)
NAMES = {COUNTED.unit: "node1/gpu0", UNCOUNTED.unit: "node1/gpu1"}


@dataclass
class Shown:
    """A worker's rate, and the moment of its read: the node's clock is this machine's own."""

    at: float
    generation: float
    prompt: float


@pytest.fixture(scope="module")
def node(installed: None) -> Iterator[Cluster]:
    """One node with a worker that counts its tokens and one that does not."""
    with Cluster() as cluster:
        cluster.add_node("node1", (COUNTED, UNCOUNTED))
        cluster.power_on()
        yield cluster


async def _read(collector: Collector, name: str, other: str, seconds: float) -> list[Shown]:
    """Every rate of `name` for so long; `other` is idle and says so all the while."""
    shown: list[Shown] = []
    async with aclosing(collector.snapshots()) as snapshots:
        async for snapshot in snapshots:
            worker, idle = snapshot.worker(name), snapshot.worker(other)
            assert idle.generation_tokens_per_second == 0, "another worker's tokens"
            at, rate = worker.sample.read_at_seconds, worker.generation_tokens_per_second
            if at is None or rate is None or (shown and at == shown[-1].at):
                continue
            shown.append(Shown(at, rate, worker.prompt_tokens_per_second or 0.0))
            if shown[-1].at - shown[0].at >= seconds:
                return shown
    raise AssertionError("the snapshots ended")


@pytest.mark.parametrize(
    ("worker", "bound"), [(COUNTED, 0.01), (UNCOUNTED, 0.05)], ids=["metrics", "slots"]
)
async def test_the_rate_is_that_of_the_tokens_received(
    node: Cluster, tmp_path: Path, worker: Worker, bound: float
) -> None:
    (other,) = NAMES.keys() - {worker.unit}
    declared = config.load(_without_balancer(node.write_files(tmp_path)))
    machines = Machines(declared)
    url = f"http://{node['node1'].address}:{worker.port}"
    try:
        async with Collector(declared, machines) as collector:
            async with asyncio.timeout(60):
                async for snapshot in collector.snapshots():
                    rates = [w.generation_tokens_per_second for w in snapshot.workers]
                    if rates == [0, 0]:
                        break
            async with Load(url, concurrency=4, tokens=(50, 400)) as load:
                await load.wait_tokens(100)
                async with asyncio.timeout(3 * SECONDS):
                    shown = await _read(collector, NAMES[worker.unit], NAMES[other], SECONDS)
    finally:
        await machines.close()
    first, last = shown[0], shown[-1]
    told = sum(now.generation * (now.at - before.at) for before, now in pairwise(shown))
    truth = load.tokens_between(first.at, last.at)
    assert load.failed == []
    assert len(load.streams) > 8, "too few requests to mean anything"
    print(f"{len(shown)} reads, told {told:.0f} of {truth} tokens: {told / truth - 1:+.2%}")
    assert told == pytest.approx(truth, rel=bound)
    assert sum(rate.prompt for rate in shown) > 0


def _without_balancer(file: Path) -> Path:
    file.write_text(file.read_text().partition("[balancer]")[0])
    return file

"""How soon a drain takes effect, and what a roll adds to draining and loading, on real nodes."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.nodes import packages
from tests.nodes.cluster import GPU0, GPU1, Cluster, two_by_two
from tests.nodes.load import Load
from tests.nodes.test_operate import console

DRAINS = 8
ROLLS = 3
MEMBER = "127.0.0.1:37081"


async def last_new_requests(cluster: Cluster, directory: Path) -> list[float]:
    """From confirming a drain to the last request that began at that worker, in seconds."""
    gaps = []
    async with (
        console(cluster, directory) as at,
        Load(cluster.url, concurrency=4, tokens=(2, 20)) as load,
    ):
        for _ in range(DRAINS):
            await load.wait_tokens(500)
            plan = await at.plan("drain", "node1/gpu0")
            confirmed = time.monotonic()
            await at.execute(plan)
            await load.wait_tokens(500)
            mine = [stream.begun for stream in load.streams if stream.member == MEMBER]
            gaps.append(max(0.0, max(mine) - confirmed))
            await at.do("undrain", "node1/gpu0")
    assert (load.cut, load.failed) == ([], [])
    return gaps


def restarted_bare(cluster: Cluster) -> float:
    """The mean over the workers of `systemctl restart` and a load, polled at once, in seconds."""
    begun = time.monotonic()
    workers = [(node, worker) for node in ("node1", "node2") for worker in (GPU0, GPU1)]
    for node, worker in workers:
        cluster[node].systemctl("restart", worker.unit)
        while cluster.worker_get(node, worker, "/health")[0] != 200:
            pass
    return (time.monotonic() - begun) / len(workers)


async def rolled(cluster: Cluster, directory: Path) -> float:
    """The mean over the workers of a roll of an idle cluster, in seconds."""
    async with console(cluster, directory) as at:
        plan = await at.plan("roll")
        begun = time.monotonic()
        results = await at.execute(plan)
        whole = time.monotonic() - begun
        kinds: dict[str, float] = {}
        for result in results:
            if result.state == "done":
                kinds[result.step.kind] = kinds.get(result.step.kind, 0.0) + result.seconds
        shares = ", ".join(f"{kind} {seconds / 4:.2f}" for kind, seconds in kinds.items())
        print(f"  a worker: {whole / 4:.2f} s ({shares})")
        return whole / 4


def run() -> Iterator[tuple[str, str]]:
    """The figures; nothing where this machine cannot have real nodes."""
    reason = packages.why_not()
    if reason is not None:
        yield "not measured", reason
        return
    packages.install()
    with tempfile.TemporaryDirectory() as name, two_by_two(replace(GPU0, model="tiny")) as cluster:
        cluster.power_on()
        cluster.wait_serving()
        gaps = asyncio.run(last_new_requests(cluster, Path(name)))
        yield (
            "confirming a drain to the last new request there",
            f"{statistics.median(gaps):.2f} s median, {max(gaps):.2f} s most of {len(gaps)}",
        )
        pairs = [
            (restarted_bare(cluster), asyncio.run(rolled(cluster, Path(name))))
            for _ in range(ROLLS)
        ]
    bare = statistics.median(alone for alone, _ in pairs)
    added = statistics.median(whole - alone for alone, whole in pairs)
    yield "restart and load of a worker, bare", f"{bare:.2f} s"
    yield "a roll's own part, a worker, no request in flight", f"{added:.2f} s"

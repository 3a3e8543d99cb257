"""Probe lines to a ClusterSnapshot: processor ms for one line of each of 64 nodes, by phase.

The lines are those of a demo of 64 nodes × 8 cards × 8 workers under load. COMPOSE_LINES names a
file to keep them in, so that two versions of the code are measured on the same.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import llamatop.transport.ssh  # noqa: F401 - or the collector imports it in real time
from llamatop.cli.reading import CYCLES_AFTER
from llamatop.collect import resolve
from llamatop.collect.collector import Collector
from llamatop.collect.compose import Composer
from llamatop.collect.history import Ring
from llamatop.collect.node_lines import NodeLines
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.probe import bundle
from tests.unit.collect import virtual
from tests.unit.collect.fakes import FakeChannel, FakeMachine, FakeMachines

NODES, GPUS = 64, 8
LINES = 40
# The first lines are whole, or of workers that have no load yet.
SETTLE = 8
LLAMATOP = str(Path(sys.executable).with_name("llamatop"))

Figures = Iterator[tuple[str, str]]
Lines = dict[str, list[bytes]]


def run() -> Figures:
    """The figures, name and value."""
    with tempfile.TemporaryDirectory(prefix="llamatop-compose-") as folder:
        kept = Path(os.environ.get("COMPOSE_LINES") or Path(folder, "lines"))
        if not kept.exists():
            capture(Path(folder, "demo"), kept)
        heard = json.loads(kept.read_text())
    lines: Lines = {node: [line.encode() for line in said] for node, said in heard.items()}
    gc.set_threshold(*CYCLES_AFTER)
    yield from Bare(lines).figures()
    yield (
        "the collector over fake machines, asyncio and all",
        _quick(collected(lines)),
    )


def capture(folder: Path, kept: Path) -> None:
    """Have the demo's probes speak and keep what they say."""
    words = ["demo", "--nodes", str(NODES), "--gpus", str(GPUS), "--write", str(folder)]
    demo = subprocess.Popen([LLAMATOP, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert demo.stdout is not None
        demo.stdout.readline()
        listen = [sys.executable, "-m", "tests.benchmarks.compose_lines"]
        words = [str(folder / "cluster.toml"), str(kept), str(LINES)]
        subprocess.run([*listen, *words], check=True)
    finally:
        demo.terminate()
        demo.wait()


def cluster_of(lines: Lines) -> Cluster:
    """The demo's cluster as far as its lines matter."""
    return Cluster(
        name="fleet",
        nodes=tuple(Node(name=name, ssh=name) for name in lines),
        balancer=Balancer(node=next(iter(lines)), kind="nginx", upstream="llama_cluster"),
    )


@dataclass
class _Link:
    """What a Composer asks of a link."""

    identities: dict[str, tuple[str, float]] = field(default_factory=dict)

    def ask_members(self, addresses: tuple[str, ...]) -> None:
        pass


# What the same lines cost as bare JSON, which llamatop does not do: a measure of the machine.
_JSON = "JSON, bare"


class Bare:
    """The path of a line in a bare loop, its phases timed one by one."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._spent: list[dict[str, float]] = []

    def figures(self) -> Figures:
        """Milliseconds for a line of each node and what is made of them once a tick.

        Of 32 ticks the eighth quickest: another program on the machine only ever adds to it.
        """
        self._replay()
        ticks = self._spent[SETTLE:]
        for phase in ticks[0]:
            yield phase, _quick([tick[phase] for tick in ticks])
        yield (
            "a bare loop, all of these but JSON",
            _quick([sum(tick.values()) - tick[_JSON] for tick in ticks]),
        )

    def _replay(self) -> None:
        cluster = cluster_of(self._lines)
        composer = Composer(cluster, lambda: datetime.now(UTC))
        ring = Ring()
        links = {node.name: _Link() for node in cluster.nodes}
        read = {node.name: NodeLines(node.name) for node in cluster.nodes}
        spend = self._spend
        for tick in range(LINES):
            self._spent.append({})
            for place, (node, said) in enumerate(self._lines.items()):
                begun = time.thread_time()
                json.loads(said[tick])
                begun = spend(_JSON, begun)
                snapshot = read[node].read(said[tick], tick + place / len(self._lines))
                begun = spend("read a line", begun)
                assert snapshot is not None
                composer.take(snapshot)
                spend("rates, places, events", begun)
            begun = time.thread_time()
            latest = composer.compose(links, tick=True, whole=True, clock=tick + 1)  # type: ignore[arg-type]  # all that it asks of one
            begun = spend("compose a snapshot", begun)
            ring.record(latest)
            spend("history", begun)

    def _spend(self, phase: str, begun: float) -> float:
        now = time.thread_time()
        spent = self._spent[-1]
        spent[phase] = spent.get(phase, 0.0) + now - begun
        return time.thread_time()


def _quick(seconds: list[float]) -> str:
    return f"{1000 * sorted(seconds)[len(seconds) // 4]:.1f} ms"


def collected(lines: Lines) -> list[float]:
    """Processor seconds of each tick, a line of each node through a Collector, in virtual time."""
    cluster = cluster_of(lines)
    bundle.payload()  # what is made once

    async def addresses(_: Cluster) -> AsyncIterator[tuple[str, frozenset[str]]]:
        for node in cluster.nodes:
            yield node.name, resolve.names(node)

    resolve.addresses = addresses  # type: ignore[assignment]  # no name is looked up here

    def speaking(place: int, node: str) -> FakeMachine:
        def start(channel: FakeChannel, _: int) -> None:
            loop = asyncio.get_running_loop()
            for tick, line in enumerate(lines[node]):
                loop.call_later(tick + place / len(lines), channel.say_bytes, line)

        return FakeMachine(node, probe=start)

    async def read() -> list[float]:
        machines = FakeMachines(*(speaking(place, node) for place, node in enumerate(lines)))
        async with Collector(cluster, machines, clock=virtual.clock) as collector:

            async def look() -> None:
                async for _ in collector.snapshots():
                    pass

            reader = asyncio.create_task(look())
            await asyncio.sleep(SETTLE)
            ticks = []
            for _ in range(LINES - SETTLE - 2):
                begun = time.process_time()
                await asyncio.sleep(1)
                ticks.append(time.process_time() - begun)
            reader.cancel()
        return ticks

    return virtual.run(read())

"""A faulty hour of two nodes in no time: what the collector showed, and the recording of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import llamatop.transport.ssh  # noqa: F401 - or the collector imports it in real time
from llamatop.collect.collector import Collector
from llamatop.collect.source import History
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.record.writer import Recorder
from tests.unit.collect import virtual
from tests.unit.collect.fakes import (
    Document,
    FakeChannel,
    FakeMachine,
    FakeMachines,
    gpu,
    refused,
    unit,
    worker,
)

BEGIN = datetime(2026, 11, 21, 1, 14, 7, tzinfo=UTC)
SECONDS = 3600
INTERVAL = 3.0
UNIT = "llama-server-gpu{}.service"
OLLAMA = "ollama.service"
GIB = 2**30
NGINX = "http {{ upstream llama_cluster {{ server 127.0.0.1:37080{}; server 127.0.0.1:37083; }} }}"

# Seconds into the hour, a while after something has gone wrong or right again.
MOMENTS = {
    "at the beginning": 30,
    "a hot card": 640,
    "a worker that loads": 940,
    "a crash loop": 1240,
    "a node cut off": 1560,
    "a node back": 1830,
    "a member down": 2140,
    "a lost card": 2440,
    "a file that does not parse": 2740,
    "a hung worker": 3040,
    "at the end": 3590,
}


@dataclass
class Frozen:
    """A history as it was at one moment."""

    series: Mapping[tuple[str, ...], Sequence[float | None]]

    def generation(self, worker: str) -> Sequence[float | None]:
        return self.series.get(("generation", worker), ())

    def prompt(self, worker: str) -> Sequence[float | None]:
        return self.series.get(("prompt", worker), ())

    def slots_busy(self, worker: str) -> Sequence[float | None]:
        return self.series.get(("slots", worker), ())

    def gpu_utilization(self, node: str, uuid: str) -> Sequence[float | None]:
        return self.series.get(("gpu", node, uuid), ())

    def total_generation(self) -> Sequence[float | None]:
        return self.series[("total",)]


@dataclass
class Hour:
    """What was seen live: every snapshot, and at MOMENTS the history too."""

    seen: list[ClusterSnapshot] = field(default_factory=list)
    moments: dict[str, tuple[ClusterSnapshot, Frozen]] = field(default_factory=dict)


def frozen(history: History, snapshot: ClusterSnapshot) -> Frozen:
    series: dict[tuple[str, ...], Sequence[float | None]] = {
        ("total",): tuple(history.total_generation())
    }
    for one in snapshot.workers:
        series["generation", one.name] = tuple(history.generation(one.name))
        series["prompt", one.name] = tuple(history.prompt(one.name))
        series["slots", one.name] = tuple(history.slots_busy(one.name))
    for card in snapshot.gpus:
        found = history.gpu_utilization(card.node, card.sample.uuid)
        series["gpu", card.node, card.sample.uuid] = tuple(found)
    return Frozen(series)


def document(node: str, at: float) -> Document:
    """What the node's probe says `at` seconds into the hour."""
    first = node == "node1"

    def ill(begin: int, end: int) -> bool:
        return first and begin <= at < end

    workers, units, cards = {}, {}, {}
    for index in range(2):
        name = UNIT.format(index)
        busy = (int(at) // 7 + index) % 3
        port = 37080 + index
        units[name] = unit(main_pid=port, since=1790000000.0 + index)
        one = worker(port, busy=busy, at=at)
        one["launch"]["cuda_visible_devices"] = str(index)
        # What is well again is said so: each line is a patch on the one before.
        one |= {"fault": None}
        one["requests_deferred"] = int(at) % 5 if busy == 2 else 0
        units[name] |= {"result": None}
        percent = 40.0 + (int(at) * 7 + index * 13) % 60
        card = gpu(index, port, utilization_percent=percent, power_watts=100 + percent)
        card |= {"fault": None, "throttle": None}
        if index == 0 and ill(600, 700):
            card |= {"temperature_celsius": 93.0, "throttle": ["hardware_thermal_slowdown"]}
        if index == 1 and ill(900, 1000):
            one |= {"health": "loading", "slots": None}
        if index == 1 and ill(1200, 1300):
            states = {"result": "exit-code", "restarts": int(at - 1200) // 5, "main_pid": 0}
            units[name] = unit("activating", "auto-restart", **states)
            one |= {"health": "unreachable", "slots": None, "fault": "it exits at once"}
        if index == 1 and ill(2400, 2500):
            card = {"index": 1, "name": "Tesla P40", "fault": "GPU is lost (NVML error 15)"}
        if index == 0 and ill(3000, 3100):
            one |= {"fault": "/slots has not answered for 20 s", "health": "busy"}
        workers[name], cards[f"GPU-{node}-{index}"] = one, card
    if not first:
        units[OLLAMA] = unit(main_pid=11434, since=1790000000.0)
        workers[OLLAMA] = ollama(at)
    made: Document = {
        "host": {"cpu_percent": 10 + at % 20, "load1": 0.5, "memory_used_bytes": int(at) * 4096},
        "gpus": cards,
        "units": units,
        "workers": workers,
        "ages": {f"workers/{UNIT.format(0)}": at - 3000 if ill(3000, 3100) else None},
        "balancer": None,
    }
    if first:
        text = NGINX.format(" down" if ill(2100, 2200) else "")
        if ill(2700, 2800):
            text = text.replace("}", "", 1)
        made["balancer"] = {
            "running": True,
            "main": "/etc/nginx/nginx.conf",
            "files": {"/etc/nginx/nginx.conf": {"text": text}},
        }
        made["tunnels"] = {
            "0": {
                "direction": "L",
                "listen": "127.0.0.1:37083",
                "target": "127.0.0.1:37080",
                "destination": "node2",
            }
        }
    return made


def record(path: Path, seconds: float = SECONDS) -> Hour:
    """Live through the hour, recording it into `path`."""
    return virtual.run(_record(path, seconds))


def ollama(at: float) -> Document:
    """An Ollama with a model that does not fit, asked for every ten minutes and unloaded after."""
    held = {
        "size_bytes": 20 * GIB,
        "gpu_bytes": 12 * GIB,
        "context_tokens": 8192,
        "expires_at_seconds": at - at % 600 + 300,
        "quantization": "Q4_K_M",
    }
    return {
        "engine": "ollama",
        "url": "http://127.0.0.1:11434",
        "health": "ok",
        "pids": [11434],
        "loaded": {"qwen2.5:32b": held if at % 600 < 300 else None},
        "present": {"qwen2.5:32b": "aa", "llama3.1:8b": "bb"},
        "slots": {},
        "read_at_seconds": at,
    }


async def _record(path: Path, seconds: float) -> Hour:
    begin = virtual.clock()
    hour = Hour()

    def passed() -> float:
        return virtual.clock() - begin

    def probe(node: str, machine: list[FakeMachine]) -> Any:
        def start(channel: FakeChannel, _: int) -> None:
            async def talk() -> None:
                tick = 0
                while not channel.closed:
                    if node == "node2" and 1500 <= passed() < 1600:
                        machine[0].refuse = refused(node)
                        channel.end(255, b"Connection reset by peer\n")
                        return
                    channel.say({"tick": tick, **document(node, passed())})
                    tick += 1
                    await asyncio.sleep(INTERVAL)

            channel.talk = asyncio.create_task(talk())  # type: ignore[attr-defined]  # kept alive

        return start

    machines = []
    for name in ("node1", "node2"):
        held: list[FakeMachine] = []
        held.append(FakeMachine(name, probe(name, held)))
        machines += held

    async def comes_back() -> None:
        await asyncio.sleep(1600)
        machines[1].refuse = None

    declared = Cluster(
        "faulty-hour",
        (Node("node1", "node1"), Node("node2", "node2")),
        Balancer("node1", "llama_cluster"),
        interval_seconds=INTERVAL,
        path=Path("c.toml"),
    )
    back = asyncio.create_task(comes_back())
    recorder = Recorder(path, clock=virtual.clock)
    waiting = dict(MOMENTS)
    async with Collector(
        declared,
        FakeMachines(*machines),
        clock=virtual.clock,
        now=lambda: BEGIN + timedelta(seconds=passed()),
    ) as collector:
        # What the operator does is told among the events, too.
        collector.announce(Event(BEGIN, "info", "llamatop is looking at 2 nodes"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(collector.snapshots()) as snapshots:
                async for snapshot in snapshots:
                    recorder.take(snapshot)
                    hour.seen.append(snapshot)
                    due = [name for name, at in waiting.items() if at <= passed()]
                    for name in due:
                        del waiting[name]
                        past = frozen(collector.history, snapshot)
                        hour.moments[name] = (snapshot, past)
    recorder.close()
    back.cancel()
    return hour

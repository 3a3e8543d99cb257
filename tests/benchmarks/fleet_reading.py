"""Reads a cluster without showing it: `python -m tests.benchmarks.fleet_reading FILE SECONDS`.

Prints JSON: when the first and all nodes were read, and over SECONDS after that the processor time,
the memory and the age of the oldest figure at each tick.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from llamatop import config
from llamatop.cli.reading import opened
from llamatop.collect.collector import Collector
from tests.benchmarks.terminal import resident_bytes

LONGEST_SECONDS = 60.0
SETTLE_SECONDS = 3.0


class Reading:
    """What a reader of every snapshot sees."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.first: float | None = None
        self.all: float | None = None
        self.whole = asyncio.Event()
        self.oldest: list[float] = []

    async def read(self, collector: Collector) -> None:
        tick = 0
        async for snapshot in collector.snapshots():
            reached = [node for node in snapshot.nodes if node.reachable]
            now = time.monotonic() - self.started
            if reached and self.first is None:
                self.first = now
            if len(reached) == len(snapshot.nodes) and self.all is None:
                self.all = now
                self.whole.set()
            if snapshot.tick != tick and self.all is not None:
                tick = snapshot.tick
                self.oldest.append(max((node.age_seconds or 0.0 for node in reached), default=0.0))


def ticks(collector: Collector) -> int:
    """How many lines all nodes have sent."""
    return sum(node.snapshot.tick or 0 for node in collector.latest.nodes)


async def measure(file: Path, seconds: float, started: float) -> dict[str, object]:
    reading = Reading(started)
    async with opened(config.load(file)) as (collector, _):
        task = asyncio.create_task(reading.read(collector))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading.whole.wait(), LONGEST_SECONDS)
        connecting = time.process_time()
        await asyncio.sleep(SETTLE_SECONDS)
        reading.oldest.clear()
        lines = ticks(collector)
        cpu, wall = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        lines = ticks(collector) - lines
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        task.cancel()
        return {
            "first": reading.first,
            "all": reading.all,
            "connecting_cpu": connecting,
            "cpu": cpu,
            "wall": wall,
            "lines": lines,
            "oldest": sorted(reading.oldest),
            "memory": resident_bytes(os.getpid()),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }


if __name__ == "__main__":
    BEGAN = time.monotonic()
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), float(sys.argv[2]), BEGAN))))

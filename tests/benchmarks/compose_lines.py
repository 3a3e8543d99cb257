"""Keeps what the probes of a cluster say: `python -m tests.benchmarks.compose_lines FILE TO LINES`.

TO gets an object: of each node its first LINES lines, each of which is a patch on those before it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from llamatop import config
from llamatop.collect.collector import Collector
from llamatop.model.plan import Command
from llamatop.transport.base import Channel, Completed, Machine
from llamatop.transport.machines import Machines

LONGEST_SECONDS = 300.0

Heard = dict[str, list[str]]


class Tap:
    """A channel whose lines are kept."""

    def __init__(self, channel: Channel, keep: Callable[[bytes], None]) -> None:
        self._channel = channel
        self._keep = keep

    async def write(self, data: bytes) -> None:
        await self._channel.write(data)

    async def write_eof(self) -> None:
        await self._channel.write_eof()

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        line = await self._channel.readline(limit)
        self._keep(line)
        return line

    async def wait(self) -> Completed:
        return await self._channel.wait()

    async def close(self) -> None:
        await self._channel.close()


class Tapped:
    """A machine whose programs' lines are kept."""

    def __init__(self, machine: Machine, heard: Heard) -> None:
        self._machine = machine
        self._heard = heard
        self.name = machine.name

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        return await self._machine.run(command, stdin, timeout_seconds)

    async def open(self, command: Command) -> Tap:
        return Tap(await self._machine.open(command), self._keep)

    def _keep(self, line: bytes) -> None:
        if line:
            self._heard.setdefault(self.name, []).append(line.decode("utf-8", "replace"))

    def shell_argv(self) -> list[str]:
        return self._machine.shell_argv()

    async def close(self) -> None:
        await self._machine.close()


class TappedMachines:
    """Machines whose programs' lines are kept."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.heard: Heard = {}

    def machine(self, node_name: str) -> Tapped:
        return Tapped(self._machines.machine(node_name), self.heard)


async def listen(file: Path, lines: int) -> Heard:
    """What each node says first."""
    cluster = config.load(file)
    machines = Machines(cluster)
    tapped = TappedMachines(machines)
    try:
        async with Collector(cluster, tapped), asyncio.timeout(LONGEST_SECONDS):
            while any(len(tapped.heard.get(node.name, ())) < lines for node in cluster.nodes):
                await asyncio.sleep(1)
    finally:
        await machines.close()
    return {node.name: tapped.heard[node.name][:lines] for node in cluster.nodes}


if __name__ == "__main__":
    KEPT = asyncio.run(listen(Path(sys.argv[1]), int(sys.argv[3])))
    Path(sys.argv[2]).write_text(json.dumps(KEPT))

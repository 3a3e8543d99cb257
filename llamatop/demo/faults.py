"""What can be made to go wrong in the embedded cluster, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .kinds import KINDS

if TYPE_CHECKING:
    from .embedded import EmbeddedCluster
    from .machine import Machine
    from .worker import Worker

Strike = Callable[["EmbeddedCluster"], Awaitable[None]]
LATER_SECONDS = 6.0
NEWER_SECONDS = 0.5
KEY = "demo-key"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble; `strike` brings it on, `later` after a few seconds of health."""

    about: str
    strike: Strike
    later: bool = False

    def begin(self, cluster: EmbeddedCluster) -> None:
        """Bring it on, now or soon."""

        async def run() -> None:
            if self.later:
                await asyncio.sleep(LATER_SECONDS)
            await self.strike(cluster)

        first = next(iter(cluster.machines.values()))
        first.schedule(run())


def _last(cluster: EmbeddedCluster) -> Machine:
    return list(cluster.machines.values())[-1]


def _worker(cluster: EmbeddedCluster) -> Worker:
    """The second worker of the first machine where there is one, else any."""
    workers = [worker for machine in cluster.machines.values() for worker in machine.workers]
    return workers[min(1, len(workers) - 1)]


async def _hang(cluster: EmbeddedCluster) -> None:
    _worker(cluster).hung = True


async def _crash_loop(cluster: EmbeddedCluster) -> None:
    worker = _worker(cluster)
    worker.crashes_after = 0.8
    if worker.unit is not None:
        worker.kill()
        worker.unit.restarts = 41
        worker.unit.crashed(1)


async def _lose_gpu(cluster: EmbeddedCluster) -> None:
    worker = _worker(cluster)
    card = worker.machine.cards[worker.shape.cards[-1]]
    card.lost = True
    worker.machine.journal.write(
        "kernel", "kernel", 0, f"NVRM: Xid (PCI:{card.bus}): 79, GPU has fallen off the bus.", 3
    )
    await _crash_loop(cluster)


async def _heat(cluster: EmbeddedCluster) -> None:
    for card in cluster.machines[next(iter(cluster.machines))].cards[-1:]:
        card.overheating = True
        card.temperature = 86.0


async def _kill_node(cluster: EmbeddedCluster) -> None:
    machine = _last(cluster)
    machine.reachable = False
    for front in cluster.machines.values():
        for tunnel in front.tunnels:
            if tunnel.destination == machine.name:
                tunnel.broken = True
    machine.stop()
    cluster.unplug(machine.name)


async def _break_nginx(cluster: EmbeddedCluster) -> None:
    for machine in cluster.machines.values():
        if machine.nginx is not None:
            # A file is seen to be newer than what runs from a tenth of a second on.
            await asyncio.sleep(NEWER_SECONDS)
            site = machine.root / "etc/nginx/sites-available/llama"
            site.write_text(site.read_text().replace("least_conn;", "round-robin;"))


async def _load(cluster: EmbeddedCluster) -> None:
    worker = _worker(cluster)
    worker.loading_seconds = 600.0
    if worker.unit is not None:
        await worker.unit.restart()


async def _lock(cluster: EmbeddedCluster) -> None:
    _worker(cluster).require_key(KEY)


async def _part(cluster: EmbeddedCluster) -> None:
    machine = _last(cluster)
    machine.reachable = False
    cluster.freeze(machine.name)


STRIKES: dict[str, tuple[Strike, bool]] = {
    "hang-worker": (_hang, False),
    "crash-loop": (_crash_loop, False),
    "lost-gpu": (_lose_gpu, False),
    "hot-gpu": (_heat, False),
    "dead-node": (_kill_node, True),
    "nginx-broken": (_break_nginx, False),
    "loading": (_load, False),
    "unauthorized": (_lock, False),
    "partition": (_part, True),
}
FAULTS = {name: Fault(about, *STRIKES[name]) for name, about in KINDS.items()}

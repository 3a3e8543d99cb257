"""What can be made to go wrong in the embedded cluster, each on one victim, and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from .embedded import EmbeddedCluster
    from .machine import Machine
    from .worker import Worker

NEWER_SECONDS = 0.5
LOADING_SECONDS = 600.0
CRASHES_AFTER_SECONDS = 0.8
CRASHES = 41
STALE_PORTS = 100
KEY = "demo-key"
END, LEFT_OUT = "\n}\n", "\n# }\n"


class Fault(Struct, frozen=True):
    """One kind: whom it may strike, the likeliest first, what it does and how that ends."""

    victims: Callable[[EmbeddedCluster], Sequence[Any]]
    strike: Callable[[EmbeddedCluster, Any], Awaitable[None]]
    heal: Callable[[EmbeddedCluster, Any], Awaitable[None]]


# --- whom ---------------------------------------------------------------------------------------


def _workers(cluster: EmbeddedCluster) -> list[Worker]:
    """llama-servers that ssh leads to; the second of the first machine before others."""
    found = [
        worker
        for machine in cluster.machines.values()
        for worker in machine.workers
        if machine.shape.ssh and worker.shape.engine == "llama-server"
    ]
    found = found[1:] + found[:1]
    if not cluster.real_probes:
        # What is read within the demo is read at every tick, whatever this computer has to do.
        found.sort(key=lambda worker: worker.machine.nginx is not None)
    return found


def _carded(cluster: EmbeddedCluster) -> list[Worker]:
    return [worker for worker in _workers(cluster) if worker.shape.cards]


def _nodes(cluster: EmbeddedCluster) -> list[Machine]:
    """The last node first; the balancer's is only taken where there is no other."""
    found = [machine for machine in reversed(cluster.machines.values()) if machine.shape.ssh]
    return sorted(found, key=lambda machine: machine.nginx is not None)


def _hot(cluster: EmbeddedCluster) -> list[Machine]:
    found = [machine for machine in cluster.machines.values() if machine.cards]
    return found[1:] + found[:1]


def _balancers(cluster: EmbeddedCluster) -> list[Machine]:
    return [machine for machine in cluster.machines.values() if machine.nginx is not None]


def _tunnels(cluster: EmbeddedCluster) -> list[Any]:
    return [tunnel for machine in cluster.machines.values() for tunnel in machine.tunnels]


# --- workers ------------------------------------------------------------------------------------


async def _hang(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.hung = True


async def _go_on(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.hung = False


async def _crash(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.crashes_after = CRASHES_AFTER_SECONDS
    if worker.unit is not None:
        worker.kill()
        worker.unit.restarts = CRASHES
        worker.unit.crashed(1)


async def _crash_no_more(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.crashes_after = None
    await _restart(worker)


async def _restart(worker: Worker, ready: bool = True) -> None:
    """Start it anew, with its model loaded at once where it is to be `ready`."""
    if worker.unit is not None:
        worker.kill()
        await worker.unit.restart()
        if ready:
            worker.become_ready()


async def _load(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.loading_seconds = LOADING_SECONDS
    await _restart(worker, ready=False)


async def _loaded(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.loading_seconds = None
    worker.become_ready()


async def _lock(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.key = KEY


async def _unlock(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.key = worker.shape.key


async def _blind(cluster: EmbeddedCluster, worker: Worker) -> None:
    await _with_metrics(worker, False)


async def _see(cluster: EmbeddedCluster, worker: Worker) -> None:
    await _with_metrics(worker, worker.shape.metrics)


async def _with_metrics(worker: Worker, metrics: bool) -> None:
    worker.metrics = metrics
    if worker.unit is not None:
        worker.unit.argv = tuple(worker.command()[0])
        worker.unit.file.write_text(worker.unit.text())
    await _restart(worker)


# --- cards --------------------------------------------------------------------------------------


async def _lose(cluster: EmbeddedCluster, worker: Worker) -> None:
    card = worker.machine.cards[worker.shape.cards[-1]]
    worker.machine.lose(card)
    worker.machine.journal.write(
        "kernel", "kernel", 0, f"NVRM: Xid (PCI:{card.bus}): 79, GPU has fallen off the bus.", 3
    )
    await _crash(cluster, worker)


async def _find(cluster: EmbeddedCluster, worker: Worker) -> None:
    worker.machine.cards[worker.shape.cards[-1]].lost = False
    await _crash_no_more(cluster, worker)


async def _heat(cluster: EmbeddedCluster, machine: Machine) -> None:
    card = machine.cards[-1]
    card.overheating = True
    card.temperature = max(card.temperature, 89.0)


async def _cool(cluster: EmbeddedCluster, machine: Machine) -> None:
    card = machine.cards[-1]
    card.overheating = False
    card.settle()


# --- nodes, and the ways to them ----------------------------------------------------------------


async def _kill(cluster: EmbeddedCluster, machine: Machine) -> None:
    cluster.cut_off(machine, True)
    machine.stop()
    cluster.unplug(machine.name)


async def _boot(cluster: EmbeddedCluster, machine: Machine) -> None:
    for unit in machine.units.values():
        unit.main_pid, unit.state = 0, "inactive"
        await unit.start()
    for worker in machine.workers:
        worker.become_ready()
    cluster.plug_in(machine.name)
    cluster.cut_off(machine, False)


async def _part(cluster: EmbeddedCluster, machine: Machine) -> None:
    cluster.cut_off(machine, True)
    cluster.sshds[machine.name].freeze()


async def _join(cluster: EmbeddedCluster, machine: Machine) -> None:
    cluster.sshds[machine.name].thaw()
    cluster.cut_off(machine, False)


async def _break_nginx(cluster: EmbeddedCluster, machine: Machine) -> None:
    # A file is seen to be newer than what runs from a tenth of a second on.
    await asyncio.sleep(NEWER_SECONDS)
    site = machine.root / "etc/nginx/sites-available/llama"
    text = site.read_text()
    if text.endswith(END):
        site.write_text(text.removesuffix(END) + LEFT_OUT)


async def _mend_nginx(cluster: EmbeddedCluster, machine: Machine) -> None:
    site = machine.root / "etc/nginx/sites-available/llama"
    text = site.read_text()
    if text.endswith(LEFT_OUT):
        site.write_text(text.removesuffix(LEFT_OUT) + END)
    if machine.nginx is not None:
        await machine.nginx.reload()


async def _lead_astray(cluster: EmbeddedCluster, tunnel: Any) -> None:
    await tunnel.lead(STALE_PORTS)


async def _lead_back(cluster: EmbeddedCluster, tunnel: Any) -> None:
    await tunnel.lead(0)


FAULTS = {
    "dead-node": Fault(_nodes, _kill, _boot),
    "partition": Fault(_nodes, _part, _join),
    "loading": Fault(_workers, _load, _loaded),
    "crash-loop": Fault(_workers, _crash, _crash_no_more),
    "hang-worker": Fault(_workers, _hang, _go_on),
    "no-metrics": Fault(_workers, _blind, _see),
    "unauthorized": Fault(_workers, _lock, _unlock),
    "lost-gpu": Fault(_carded, _lose, _find),
    "hot-gpu": Fault(_hot, _heat, _cool),
    "nginx-broken": Fault(_balancers, _break_nginx, _mend_nginx),
    "stale-tunnel": Fault(_tunnels, _lead_astray, _lead_back),
}

"""Where an address of the balancer leads to, directly or through a tunnel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .tunnel import Tunnel
from .worker import Worker

if TYPE_CHECKING:
    from .machine import Machine


class Roads:
    """The ways to all workers, drawn up when the first is asked for."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = machines
        self._ways: dict[str, list[tuple[Tunnel | None, Worker]]] = {}

    def reach(self, address: str) -> Worker | None:
        """The worker that a connection from the balancer to this address comes to."""
        if not self._ways:
            self._draw()
        for tunnel, worker in self._ways.get(address, ()):
            if tunnel is None or tunnel.alive:
                reached = worker.task is not None and worker.machine.reachable
                return worker if reached else None
        return None

    def forget(self) -> None:
        """Workers came or went: draw them up anew."""
        self._ways.clear()

    def _draw(self) -> None:
        for machine in self._machines.values():
            for worker in machine.workers:
                self._ways[f"{machine.address}:{worker.shape.port}"] = [(None, worker)]
        for machine in self._machines.values():
            for tunnel in machine.tunnels:
                for forward in tunnel.forwards:
                    target = f"{forward.host}:{forward.host_port}"
                    through = self._ways.setdefault(f"{machine.address}:{forward.port}", [])
                    through += [(tunnel, worker) for _, worker in self._ways.get(target, ())]

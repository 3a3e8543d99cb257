"""A simulated machine: its cards, processes, units, journal and the files they lie in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any

from llamatop.probe import unit_text

from . import board, headers, unit_disk
from .balancer import Nginx
from .card import Card, kind_of
from .journal import Journal
from .other_engines import KINDS
from .shape import NodeShape, WorkerShape
from .tasks import TaskTable
from .tunnel import Tunnel
from .unit import Unit
from .worker import Worker

FALLEN_OFF = 79


class Machine:
    """One machine; everything of it on disk lies under `root`.

    `reachable` false is a partition: connections stay open and nothing moves on them.
    """

    def __init__(self, shape: NodeShape, root: Path, upstream: str, random: Random) -> None:
        self.name = shape.name
        self.shape = shape
        self.address = shape.address
        self.root = root
        self.upstream = upstream
        self.random = random
        self.reachable = True
        for folder in ("bin", "proc", "lib", "home", "etc/systemd/system", "run"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.name)
        # The monotonic clock is this machine's own, and so then is the moment of boot.
        booted = time.time() - time.monotonic()
        self.table = TaskTable(root / "proc", self.name, booted)
        self.cards = [Card.make(index, random, kind_of(shape.name)) for index in range(shape.cards)]
        self.table.memory_nodes = board.memory_nodes(shape.cards)
        board.write(root, self.cards, self.table.cpu_count)
        for worker in shape.workers:
            if worker.engine == "llama-server":
                headers.write(root, worker.model)
        # What its driver wrote into the kernel's log: (seconds since boot, PCI bus, XID).
        self.xids: list[tuple[float, str, int]] = []
        self.units: dict[str, Unit] = {}
        self.workers: list[Worker] = []
        self.tunnels: list[Tunnel] = []
        self.nginx: Nginx | None = None
        self.background: set[asyncio.Task[Any]] = set()
        self.advanced = time.monotonic()
        # Clients who take tokens one by one.
        self.streams = 0
        # Called when workers come or go.
        self.reshaped: Callable[[], None] = lambda: None

    def add_worker(self, shape: WorkerShape) -> Worker:
        """Install a worker's unit."""
        worker = KINDS[shape.engine](self, shape)
        self.workers.append(worker)
        argv, settings = worker.command()
        devices = ",".join(str(card) for card in shape.cards)
        environment = [f"CUDA_VISIBLE_DEVICES={devices}", "CUDA_DEVICE_ORDER=PCI_BUS_ID"]
        environment += settings
        where = f"GPUs {devices}" if shape.split else f"GPU {devices}"
        self._install(
            Unit(
                shape.unit,
                "worker",
                f"{shape.engine} on {where}",
                tuple(argv),
                worker,
                self.journal,
                self._unit_file(shape.unit),
                environment=tuple(environment),
            )
        )
        return worker

    def add_tunnel(self, name: str, tunnel: Tunnel) -> None:
        """Install a tunnel's unit."""
        self.tunnels.append(tunnel)
        self._install(
            Unit(
                name,
                "tunnel",
                f"tunnel to the workers of {tunnel.destination}",
                tunnel.argv(),
                tunnel,
                self.journal,
                self._unit_file(name),
                environment=("AUTOSSH_GATETIME=0",),
            )
        )

    def add_nginx(self, nginx: Nginx) -> None:
        """Install nginx's unit."""
        self.nginx = nginx
        name = "nginx.service"
        self._install(
            Unit(
                name,
                "nginx",
                "A high performance web server and a reverse proxy server",
                ("/usr/sbin/nginx", "-g", "daemon on; master_process on;"),
                nginx,
                self.journal,
                self._unit_file(name),
                type="forking",
            )
        )

    def take_up(self, shape: WorkerShape, text: str) -> None:
        """A worker whose unit file somebody wrote: known, and neither enabled nor started."""
        worker = KINDS[shape.engine](self, shape)
        self.workers.append(worker)
        self.units[shape.unit] = Unit(
            shape.unit,
            "worker",
            shape.unit.removesuffix(".service"),
            tuple(unit_text.exec_start([text], shape.unit)),
            worker,
            self.journal,
            self._unit_file(shape.unit),
            environment=tuple(f"{k}={v}" for k, v in unit_disk.variables(text).items()),
            enabled=False,
        )
        self.reshaped()

    def forget(self, name: str) -> None:
        """A unit whose file is gone."""
        unit = self.units.pop(name)
        self.workers = [worker for worker in self.workers if worker is not unit.process]
        self.reshaped()

    def _unit_file(self, name: str) -> Path:
        return self.root / "etc/systemd/system" / name

    def _install(self, unit: Unit) -> None:
        unit.file.write_text(unit.text())
        unit.file.chmod(0o644)
        self.units[unit.name] = unit

    def find(self, pattern: str) -> list[Unit]:
        """The units that a name or a glob means; `.service` may be left out."""
        full = pattern if "." in pattern.rpartition("@")[2] else f"{pattern}.service"
        return [unit for name, unit in self.units.items() if fnmatchcase(name, full)]

    def lose(self, card: Card) -> None:
        """Let a card fall off the bus, as the driver tells it."""
        card.lost = True
        at, bus = round(time.time() - self.table.booted, 1), card.bus[4:].rpartition(".")[0]
        self.xids.append((at, bus, FALLEN_OFF))
        with (self.root / "kmsg").open("a") as log:
            log.write(
                f"3,{len(self.xids)},{at * 1e6:.0f},-;NVRM: Xid (PCI:{bus}): {FALLEN_OFF}, "
                "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"
            )

    def schedule(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something without anybody waiting for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def catch_up(self) -> None:
        """Let the time pass that has passed since it last did."""
        now = time.monotonic()
        self.advance(now, now - self.advanced)

    def advance(self, now: float, seconds: float) -> None:
        """Let time pass until `now`: engines compute, cards follow for so many `seconds`."""
        self.advanced = now
        for worker in self.workers:
            worker.advance(now)
        for card in self.cards:
            card.load, card.sharers = 0.0, 0
        for worker in self.workers:
            for place, number in enumerate(worker.shape.cards):
                card = self.cards[number]
                load = worker.load_on(place)
                card.load = min(1.0, card.load + load)
                card.sharers += load > 0
        for card in self.cards:
            card.sharers = max(card.sharers, 1)
            card.advance(seconds)

    def refresh(self) -> None:
        """Bring what lies in files up to date."""
        if self.nginx is not None:
            # Nobody asks who holds what but to see how a drain goes on.
            self.table.connections = self.nginx.connections(draining=True)
        self.table.refresh()
        unit_disk.look(self)

    def stop(self) -> None:
        """Everything off."""
        for unit in self.units.values():
            if unit.restarting is not None:
                unit.restarting.cancel()
            unit.process.kill()

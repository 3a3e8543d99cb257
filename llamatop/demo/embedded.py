"""The embedded cluster: machines, sockets, traffic and the files that lead to them."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from . import files, keys, shape
from .balancer import Nginx
from .control import PATH_HERE, Control
from .listening import ssh_listener
from .machine import Machine
from .nginx_files import configure
from .roads import Roads
from .shape import SSH_PORT, ClusterShape
from .tunnel import Forward, Tunnel
from .unit import SHOWN
from .workload import Chooser, Nobody, Workload

if TYPE_CHECKING:
    from .sshd import Sshd

TICK_SECONDS = 0.05
# With so many workers the simulation takes larger steps, of several ticks.
MANY_WORKERS = 64
MANY_TURNS = 10
SEASON_SECONDS = 6.0
TOKEN = "LLAMATOP_DEMO"  # noqa: S105 - the name of a variable
# At most how long a worker has been up, and how large a part of this machine's own uptime.
AGES = ((3.1 * 86400, 0.7), (26 * 3600.0, 0.5), (5 * 86400.0, 0.8), (9 * 3600.0, 0.4))
SERVICE_SECONDS = 3 * 86400.0


class EmbeddedCluster:
    """Everything of one run; files lie in `directory`, sockets of stand-ins in a short path.

    `write` gives the files that llamatop needs; `start` makes everything answer. Without
    `real_probes` only the balancer's node runs the probe as a process of its own: by default where
    there are few nodes.
    """

    def __init__(
        self,
        cluster: ClusterShape,
        listeners: list[socket.socket],
        directory: Path,
        seed: int | None = None,
        real_probes: bool | None = None,
    ) -> None:
        self.shape = cluster
        few = len(cluster.nodes) <= shape.FEW_NODES
        self.real_probes = few if real_probes is None else real_probes
        self.many = sum(len(node.workers) for node in cluster.nodes) > MANY_WORKERS
        self.directory = directory
        self.random = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self.sockets = Path(tempfile.mkdtemp(prefix="llamatop-"))
        self.listeners = dict(zip((node.name for node in cluster.nodes), listeners, strict=False))
        self.jump_listener = listeners[-1] if cluster.jump else None
        self.client_key = keys.make()
        self.host_keys = {node.name: keys.make() for node in cluster.nodes}
        self.jump_key = keys.make()
        self.machines: dict[str, Machine] = {}
        self.controls: dict[str, Control] = {}
        self.sshds: dict[str, Sshd] = {}
        self.workloads: list[Workload] = []
        self.roads = Roads(self.machines)
        self.running: list[asyncio.Task[None]] = []

    def paths(self) -> list[Path]:
        """Everything that this run puts into the directory."""
        nodes = [node.name for node in self.shape.nodes]
        return [self.directory / name for name in (*nodes, *files.NAMES)]

    def write(self) -> None:
        """Write cluster.toml, ssh_config, the key and known_hosts."""
        files.write(self.directory, self.shape, self.client_key, self.host_keys, self.jump_key)

    # --- machines --------------------------------------------------------------------------

    def build(self) -> None:
        """Make the machines with their units."""
        for node in self.shape.nodes:
            root = self.directory / node.name
            shutil.rmtree(root, ignore_errors=True)
            machine = Machine(node, root, self.shape.upstream, self.random)
            for worker in node.workers:
                machine.add_worker(worker)
            machine.reshaped = self.roads.forget
            self.machines[node.name] = machine
        if self.shape.balancer is not None:
            self._balance(self.machines[self.shape.balancer])
        self._call_directly()
        for number, machine in enumerate(self.machines.values()):
            control = Control(machine, self.sockets / f"{number}.sock")
            if self.has_real_probe(machine):
                control.install()
            self.controls[machine.name] = control

    def has_real_probe(self, machine: Machine) -> bool:
        """Whether what runs the probe there is a process; what edits nginx's files always is."""
        return self.real_probes or machine.nginx is not None

    def _balance(self, front: Machine) -> None:
        """Give one machine nginx, and tunnels to the workers of the others."""
        own = self.shape.upstream
        upstreams: dict[str, list[tuple[str, str, int]]] = {own: []}
        slots: Counter[str] = Counter()
        port = shape.WORKER_PORT + len(front.shape.workers)
        for machine in self.machines.values():
            forwards = []
            for worker in machine.shape.workers:
                if not worker.member:
                    continue
                name = f"{machine.name} {worker.unit.removesuffix('.service')}"
                weight = len(worker.cards) if self.shape.weighted else 1
                upstream = worker.upstream or own
                members = upstreams.setdefault(upstream, [])
                slots[upstream] += worker.parallel
                if machine is front or not machine.shape.ssh:
                    members.append((f"{machine.address}:{worker.port}", name, weight))
                else:
                    forwards.append(Forward(port, machine.address, worker.port))
                    members.append((f"{front.address}:{port}", name, weight))
                    port += 1
            split = any(w.split and w.engine == "llama-server" for w in machine.shape.workers)
            if split and machine is not front and machine.shape.ssh:
                # Ports that lead to workers which are not there yet: one a card.
                free = shape.WORKER_PORT + len(machine.shape.workers)
                for spare in range(free, free + len(machine.cards)):
                    forwards.append(Forward(port, machine.address, spare))
                    port += 1
            if forwards:
                tunnel = Tunnel(front, machine.name, tuple(forwards))
                front.add_tunnel(f"autossh-{machine.name}.service", tunnel)
        front.add_nginx(Nginx(front, configure(front.root, self.shape, upstreams)))
        nginx = front.nginx
        assert nginx is not None
        for upstream in upstreams:
            self._send_requests(nginx, upstream, slots[upstream])

    def _call_directly(self) -> None:
        """What no balancer leads to is asked by people who know where it is."""
        workers = [
            (f"{node.address}:{worker.port}", worker.parallel)
            for node in self.shape.nodes
            for worker in node.workers
            if self.shape.balancer is None or not worker.member
        ]
        if workers:
            slots = sum(slots for _, slots in workers)
            nobody = Nobody([address for address, _ in workers])
            self._send_requests(nobody, self.shape.upstream, slots)

    def _send_requests(self, chooser: Chooser, upstream: str, slots: int) -> None:
        self.workloads.append(
            Workload(chooser, upstream, slots, self.roads.reach, self.random, long=self.many)
        )

    def environ(self, machine: Machine) -> dict[str, str]:
        """The environment in which commands run on a machine."""
        return {
            TOKEN: str(self.sockets),
            "LLAMATOP_DEMO_NODE": machine.name,
            "PATH": f"{machine.root}/bin:{PATH_HERE}",
            # What its stand-in nvidia-smi tells, whatever cards this machine has.
            "LLAMATOP_GPUS": "nvidia-smi",
            "LLAMATOP_LOCK_DIRECTORY": str(machine.root / "run"),
            "LLAMATOP_DRAINS_DIRECTORY": str(machine.root / "run"),
            "LLAMATOP_UNITS_DIRECTORY": str(machine.root) + SHOWN,
            "LLAMATOP_LOG_SOCKET": str(machine.root / "run" / "log"),
            "HOST_PROC": str(machine.root / "proc"),
            "HOST_SYS": str(machine.root / "sys"),
            "HOST_ROOT": str(machine.root),
            "HOST_KMSG": str(machine.root / "kmsg"),
            "LD_LIBRARY_PATH": str(machine.root / "lib"),
            "HOME": str(machine.root / "home"),
            "USER": machine.shape.user,
            "LOGNAME": machine.shape.user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "PS1": f"{machine.shape.user}@{machine.name}:\\w\\$ ",
        }

    # --- running ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the machines as if they had been at work for days, then let them be reached."""
        for control in self.controls.values():
            await control.start()
        for machine in self.machines.values():
            for unit in machine.units.values():
                await unit.start()
        self._season()
        loop = asyncio.get_running_loop()
        self.running = [loop.create_task(self._live()), loop.create_task(self._show())]
        self._listen()

    def _season(self) -> None:
        """Models loaded, counters high, cards warm, requests half done."""
        now = time.monotonic()
        up = time.monotonic()
        number = 0
        for machine in self.machines.values():
            for worker in machine.workers:
                worker.become_ready()
                engine = worker.engine
                assert engine is not None
                longest, part = AGES[number % len(AGES)]
                age = min(longest, up * part)
                number += 1
                if worker.unit is not None and worker.task is not None:
                    worker.unit.age(age)
                    worker.task.started = time.time() - age
                    worker.task.cpu_seconds = age * 0.7
                    worker.token -= int(age * 1e6)
                totals = engine.totals
                totals.generated_tokens = int(SERVICE_SECONDS * self.random.uniform(20, 40))
                totals.prompt_tokens = int(totals.generated_tokens * 2.3)
                totals.generation_seconds = SERVICE_SECONDS * 2.1
                totals.prompt_seconds = SERVICE_SECONDS * 0.2
                totals.decodes = int(totals.generated_tokens / 2.2)
                totals.busy_slots = int(totals.decodes * 2.3)
                engine.clock = now - SEASON_SECONDS
        if self.workloads:
            for workload in self.workloads:
                workload.started = now - SEASON_SECONDS
            pause = 0.5 if self.many else 0.1
            for step in range(int(SEASON_SECONDS / pause)):
                moment = now - SEASON_SECONDS + step * pause
                for workload in self.workloads:
                    workload.advance(moment)
                for machine in self.machines.values():
                    machine.advance(moment, pause)
        for machine in self.machines.values():
            for card in machine.cards:
                card.settle()
            for unit in machine.units.values():
                if unit.kind != "worker":
                    unit.age(up * 0.9)
                    for task in machine.table.tasks.values():
                        # nginx's workers are as old as the last reload: after its files.
                        if task.unit == unit.name and "worker process" not in task.argv[0]:
                            task.started = time.time() - up * 0.9
            for task in machine.table.tasks.values():
                machine.table.rewrite(task)
            machine.refresh()

    def unplug(self, name: str) -> None:
        """The machine's power is gone: nobody answers there any more."""
        self.sshds[name].stop()

    def plug_in(self, name: str) -> None:
        """It answers again."""
        self.listeners[name] = ssh_listener(self.machines[name].address)
        self._serve_ssh(name)

    def cut_off(self, machine: Machine, off: bool) -> None:
        """No request reaches it, directly or through a tunnel; or they do again."""
        machine.reachable = not off
        for other in self.machines.values():
            for tunnel in other.tunnels:
                if tunnel.destination == machine.name:
                    tunnel.broken = off

    def _listen(self) -> None:
        for name, machine in self.machines.items():
            if machine.shape.ssh:
                self._serve_ssh(name)
            else:
                self.listeners[name].close()
        if self.jump_listener is not None:
            addresses = {node.address for node in self.shape.nodes}
            self._serve_ssh(
                next(iter(self.machines)),
                lambda host, port: host in addresses and port == SSH_PORT,
            )

    def _serve_ssh(self, name: str, may_forward: Callable[[str, int], bool] | None = None) -> None:
        """Answer for a machine, or with `may_forward` for the jump host in front of it."""
        # paramiko takes a moment to load; by now the files are written and the sockets listen.
        from .sshd import Sshd

        machine, jump = self.machines[name], self.jump_listener
        forwards = may_forward is not None and jump is not None
        self.sshds["jump" if forwards else name] = sshd = Sshd(
            jump if forwards and jump is not None else self.listeners[name],
            self.jump_key if forwards else self.host_keys[name],
            self.client_key,
            self.environ(machine),
            str(self.sockets if forwards else machine.root / "home"),
            may_forward or (lambda host, port: False),
            self.controls[name].install,
            None if forwards or self.has_real_probe(machine) else machine,
        )
        sshd.start()

    async def _live(self) -> None:
        """The simulation's clock; in a fleet each machine has its turn now and then."""
        machines = list(self.machines.values())
        turns = MANY_TURNS if self.many else 1
        for turn in count():
            await asyncio.sleep(TICK_SECONDS)
            for place, machine in enumerate(machines):
                # Tokens that somebody takes one by one come as they are made.
                if place % turns == turn % turns or machine.streams:
                    machine.catch_up()
            for workload in self.workloads:
                workload.advance(time.monotonic())

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for machine in self.machines.values():
                machine.refresh()

    def stop(self) -> None:
        """Everything off; called from the event loop."""
        for task in self.running:
            task.cancel()
        for sshd in self.sshds.values():
            sshd.stop()
        for control in self.controls.values():
            control.stop()
        for machine in self.machines.values():
            machine.stop()

    def clean(self) -> None:
        """Remove every file of this run, and give its addresses back."""
        for listener in self.listeners.values():
            listener.close()
        for path in self.paths():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


def environment_token(cluster: EmbeddedCluster) -> bytes:
    """What every process of this run carries in its environment, as /proc/PID/environ shows it."""
    return os.fsencode(f"{TOKEN}={cluster.sockets}")

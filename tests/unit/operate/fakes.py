"""A cluster in memory: model objects on the reading side, machines that obey on the other.

    cluster = FakeCluster.two_by_two()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("drain", ["node1/gpu0"])

`cluster.workers["node1/gpu0"].busy = 2` and the like set the scene; `cluster.ticks` holds
functions, one called before each snapshot that is waited for. `cluster.ran` is every command.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from llamatop import nginx
from llamatop.collect.membership import membership, state_of
from llamatop.collect.source import History
from llamatop.errors import Unreachable
from llamatop.model.cluster import (
    ClusterSnapshot,
    Event,
    MemberView,
    NodeView,
    WorkerView,
)
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.model.observed import (
    BalancerSample,
    Health,
    LeftDrained,
    NodeSnapshot,
    Tunnel,
    UnitState,
    WorkerSample,
)
from llamatop.model.plan import Command, Plan
from llamatop.operate.audit import Audit
from llamatop.operate.service import ClusterOperator
from llamatop.probe import drains
from llamatop.transport.base import Completed

MAIN = "/etc/nginx/nginx.conf"
CONF = "/etc/nginx/conf.d/llama.conf"
UPSTREAM = """upstream llama_cluster {
    least_conn;
    server 127.0.0.1:37081;
    server 127.0.0.1:37082;
    server 127.0.0.1:37083; # node2
    server 127.0.0.1:37084;
}
"""
# Everything but one word.
LISTING = """\
User ops may run the following commands on node1:

Sudoers entry:
    RunAsUsers: root
    Options: !authenticate
    Commands:
\tALL
\t!/usr/bin/* *{refused}*
"""


async def _at_once(address: str) -> None:
    """The balancer gets its answer, or none, without waiting."""


@dataclass
class FakeWorker:
    """A unit and its process; `fails` is what the next start ends with."""

    unit: str
    member: str | None
    active: str = "active"
    sub: str = "running"
    health: Health | None = "ok"
    model: str | None = "tiny"
    busy: int | None = 0
    deferred: int | None = 0
    pid: int = 100
    restarts: int = 0
    enabled: str = "enabled"
    fails: Literal["", "failed", "flaps", "loading"] = ""
    certain: bool = True
    changed_on_disk: bool = False


@dataclass
class FakeCluster:
    """Two nodes' worth of state, all of it open to the test."""

    workers: dict[str, FakeWorker]
    tunnels: dict[str, tuple[Tunnel, ...]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    connections: dict[str, int] | None = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    http_only: set[str] = field(default_factory=set)
    ran: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    expected: list[Plan | None] = field(default_factory=list)
    ticks: list[Callable[[], None]] = field(default_factory=list)
    looked: Callable[[], None] = lambda: None
    ages: dict[str, float] = field(default_factory=dict)
    root: bool = True
    noise: bytes = b""
    sudo: bool = True
    sudo_refuses: str = ""
    systemctl_refuses: str = ""
    transaction_fails: tuple[str, str] | None = None
    transaction_cuts: int = 0
    unrecorded: str = ""
    systemctl_cuts: tuple[int, bool] = (0, False)
    before_transaction: Callable[[], None] = lambda: None
    during_systemctl: Callable[[], None] = lambda: None
    age_seconds: float = 0.0
    lost_seconds: float = 0.0
    balancer: bool = True
    reloads: int = 0
    nginx_active: str = "active"
    unreached: dict[str, int] = field(default_factory=dict)
    reaching: Callable[[str], Awaitable[None]] = _at_once
    frozen: ClusterSnapshot | None = None
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    test: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    asked: list[dict[str, Any]] = field(default_factory=list)
    killed: dict[str, str] = field(default_factory=dict)
    look_fails: tuple[str, str] | None = None
    left: tuple[LeftDrained, ...] = ()
    begun: list[dict[str, Any]] = field(default_factory=list)
    reshapes_fail: dict[str, tuple[str, str]] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)

    @classmethod
    def two_by_two(cls) -> FakeCluster:
        """node1 and node2 with two workers each, all in; node2's behind a tunnel on node1."""
        workers = {
            f"node{node}/gpu{gpu}": FakeWorker(
                f"llama-server-gpu{gpu}.service",
                f"127.0.0.1:3708{2 * node + gpu - 1}",
                pid=100 * node + gpu,
            )
            for node in (1, 2)
            for gpu in (0, 1)
        }
        tunnels = {
            "node1": tuple(
                Tunnel("L", listen, f"127.0.0.1:3708{n}", "node2", 90, "llama-tunnel.service")
                for n, listen in enumerate(("127.0.0.1:37083", "127.0.0.1:37084"), 1)
            )
        }
        files = {MAIN: b"http { include conf.d/*.conf; }\n", CONF: UPSTREAM.encode()}
        return cls(workers, tunnels, files)

    def operator(self, audit: Path) -> ClusterOperator:
        """The real operator over this cluster."""
        return ClusterOperator(FakeSource(self), FakeFleet(self), Audit(audit))

    def states(self) -> dict[str, bool]:
        """Each member's address and whether the file marks it down."""
        return {m.address: m.down for m in nginx.members(self.files, MAIN)}

    def snapshot(self, tick: int = 0) -> ClusterSnapshot:
        """The cluster as the collector would join it."""
        lines = nginx.members(self.files, MAIN)
        by_member = {w.member: name for name, w in self.workers.items() if w.certain}
        members = tuple(
            MemberView(
                line.upstream,
                line.address,
                state_of(line, self._busy(by_member.get(line.address))),
                by_member.get(line.address),
            )
            for line in lines
        )
        seen = members if self.balancer else ()
        views = tuple(self._view(name, worker, seen) for name, worker in self.workers.items())
        names = dict.fromkeys(name.partition("/")[0] for name in self.workers)
        nodes = tuple(self._node(name) for name in names)
        return ClusterSnapshot(
            cluster=self.declared(),
            taken_at=datetime.now(UTC),
            tick=tick,
            nodes=nodes,
            workers=views,
            balancer_node="node1" if self.balancer else None,
            balancer=self._balancer() if self.balancer else None,
            members=members if self.balancer else (),
        )

    def declared(self) -> Cluster:
        """The cluster file's own words."""
        names = dict.fromkeys(name.partition("/")[0] for name in self.workers)
        nodes = [Node(name, ssh=None if name in self.http_only else name) for name in names]
        balancer = None
        if self.balancer:
            balancer = Balancer("node1", "llama_cluster", test=self.test, reload=self.reload)
        return Cluster("fake", tuple(nodes), balancer)

    def _busy(self, name: str | None) -> bool:
        return bool(name and self.workers[name].busy)

    def _balancer(self) -> BalancerSample:
        return BalancerSample(
            unit="nginx.service",
            running=True,
            members=nginx.members(self.files, MAIN),
            draining_connections=self.connections,
            shutdown_timeout=nginx.shutdown_timeout(self.files, MAIN),
            left=(*self.left, *self._taken_out()),
        )

    def _taken_out(self) -> list[LeftDrained]:
        """What auto-drain has out by the notes, which are a second apart."""
        lines = [
            {"members": [], **about, "event": event, "at": float(at)}
            for at, (event, about) in enumerate(self.notes)
        ]
        left = drains.left(lines, float(len(lines)))
        return [LeftDrained(**one) for one in left if one.get("auto")]

    def _unit(self, worker: FakeWorker) -> UnitState:
        return UnitState(
            worker.unit,
            "worker",
            active_state=worker.active,
            sub_state=worker.sub,
            result="exit-code" if worker.active == "failed" or worker.restarts else "success",
            unit_file_state=worker.enabled,
            restarts=worker.restarts,
            main_pid=worker.pid if worker.active == "active" else 0,
            load_state="loaded",
            need_daemon_reload=worker.changed_on_disk,
        )

    def _view(self, name: str, worker: FakeWorker, members: tuple[MemberView, ...]) -> WorkerView:
        mine = [m for m in members if m.worker == name]
        certain = membership([m.state for m in mine]) if worker.certain else None
        running = worker.active == "active"
        return WorkerView(
            name=name,
            node=name.partition("/")[0],
            unit=self._unit(worker),
            sample=WorkerSample(
                unit=worker.unit,
                health=worker.health if running else "unreachable",
                model=worker.model,
                requests_deferred=worker.deferred if running else None,
            ),
            membership=certain if self.balancer else None,
            members=tuple((m.upstream, m.address) for m in mine),
            slots_busy=worker.busy if running else None,
            slots_total=2,
        )

    def _node(self, name: str) -> NodeView:
        units = {w.unit: self._unit(w) for n, w in self.workers.items() if n.startswith(name + "/")}
        if name == "node1":
            tunnel = UnitState(
                "llama-tunnel.service",
                "tunnel",
                active_state="active",
                sub_state="running",
                main_pid=90 + sum(1 for _, c in self.ran if "restart -- llama-tunnel" in c),
            )
            proxy = UnitState(
                "nginx.service", "nginx", active_state=self.nginx_active, sub_state="running"
            )
            units |= {tunnel.name: tunnel, proxy.name: proxy}
        heard = time.monotonic() - self.age_seconds
        snapshot = NodeSnapshot(
            name,
            reachable=name not in self.silent,
            received_at=heard,
            units=units,
            ages={k: v for k, v in self.ages.items() if name == "node1"},
            tunnels=self.tunnels.get(name, ()),
        )
        fault = "no answer for 9 s" if name in self.silent else None
        age = self.age_seconds + (self.lost_seconds if fault else 0.0)
        return NodeView(name, snapshot, name not in self.silent, age, fault, bool(fault))


class FakeSource:
    """A LiveSource: each wait for a snapshot calls the next of the cluster's `ticks`."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._fake = cluster
        self._tick = 0

    @property
    def cluster(self) -> Cluster:
        return self._fake.declared()

    @property
    def latest(self) -> ClusterSnapshot:
        return self._fake.frozen or self._fake.snapshot(self._tick)

    @property
    def history(self) -> History:
        raise NotImplementedError

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        while True:
            await asyncio.sleep(0.001)
            self._tick += 1
            if self._fake.ticks:
                self._fake.ticks.pop(0)()
            yield self.latest

    async def refresh(self, node: str) -> NodeSnapshot:
        await asyncio.sleep(0)
        if node in self._fake.silent:
            raise Unreachable(node, "no answer")
        self._fake.looked()
        return self.latest.node(node).snapshot

    def announce(self, event: Event) -> None:
        self._fake.events.append(event)

    def expect(self, plan: Plan | None) -> None:
        self._fake.expected.append(plan)

    def journal(self, worker: str, lines: int = 200, follow: bool = True) -> AsyncIterator[str]:
        raise NotImplementedError

    def shell_argv(self, node: str) -> list[str]:
        return ["ssh", node]


class FakeFleet:
    """Machines by name."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def machine(self, node_name: str) -> FakeMachine:
        return FakeMachine(self._cluster, node_name)


@dataclass
class FakeMachine:
    """A Machine that knows the commands plans are made of, and does what they would do."""

    cluster: FakeCluster
    name: str

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        await asyncio.sleep(0)
        if self.name in self.cluster.silent:
            raise Unreachable(self.name, "no answer")
        argv = list(command.argv)
        self.cluster.ran.append((self.name, str(command)))
        if argv[-1] == "-ll":
            refused = self.cluster.sudo_refuses
            return Completed(0, LISTING.format(refused=refused or "nothing").encode(), b"")
        if argv[:2] == ["sudo", "-n"]:
            argv = argv[2:]
            refused = self.cluster.sudo_refuses
            if refused and refused in argv:
                return Completed(1, b"", b"sudo: a password is required\n")
        elif argv[0] == "systemctl" and not self.cluster.root and self.cluster.sudo:
            return Completed(1, b"", b"Access denied\n")
        match argv:
            case ["sh", "-c", "command -v sudo"]:
                there = self.cluster.sudo
                return Completed(0 if there else 1, b"/usr/bin/sudo\n" if there else b"", b"")
            case ["id", "-u"]:
                uid = b"0\n" if self.cluster.root else b"1000\n"
                return Completed(0, self.cluster.noise + uid, b"")
            case ["readlink", *_, path]:
                return Completed(0 if path in self.cluster.files else 1, path.encode(), b"")
            case ["cat", "--", path]:
                return Completed(0, self.cluster.files[path], b"")
            case ["python3", "-c", _, address]:
                await self.cluster.reaching(address)
                return self._reach(address)
            case ["journalctl", *_]:
                return Completed(0, b"CUDA error: out of memory\n", b"")
            case ["systemctl", "--no-ask-password", "daemon-reload"]:
                self.cluster.during_systemctl()
                for name, worker in self.cluster.workers.items():
                    if name.startswith(self.name + "/"):
                        worker.changed_on_disk = False
                return Completed(0, b"", b"")
            case ["systemctl", "--no-ask-password", verb, "--", unit]:
                return self._systemctl(verb, unit)
        return Completed(127, b"", f"{argv[0]}: not found\n".encode())

    async def open(self, command: Command) -> FakeChannel:
        await asyncio.sleep(0)
        if self.name in self.cluster.silent:
            raise Unreachable(self.name, "no answer")
        if self.name in self.cluster.hung:
            await asyncio.sleep(60)
        self.cluster.before_transaction()
        return FakeChannel(self.cluster, self.name, int(command.argv[-1]))

    def shell_argv(self) -> list[str]:
        return ["ssh", self.name]

    async def close(self) -> None:
        """Nothing is open."""

    def _systemctl(self, verb: str, unit: str) -> Completed:
        self.cluster.during_systemctl()
        cuts, told = self.cluster.systemctl_cuts
        if cuts:
            self.cluster.systemctl_cuts = (cuts - 1, told)
            if told:
                self._act_on(verb, unit)
            raise Unreachable(self.name, "the connection was cut")
        if verb == self.cluster.systemctl_refuses:
            words = (
                f"Failed to {verb} {unit}: Interactive authentication required.\n"
                f"See system logs and 'systemctl status {unit}' for details.\n"
            )
            return Completed(1, b"", words.encode())
        self._act_on(verb, unit)
        return Completed(0, b"", b"")

    def _act_on(self, verb: str, unit: str) -> None:
        for name, worker in self.cluster.workers.items():
            if worker.unit == unit and name.startswith(self.name + "/"):
                self._act(verb, worker)

    def _reach(self, address: str) -> Completed:
        if address in self.cluster.unreached:
            self.cluster.unreached[address] -= 1
            if not self.cluster.unreached[address]:
                del self.cluster.unreached[address]
            return Completed(1, b"", b"[Errno 111] Connection refused\n")
        return Completed(0, b"200\n", b"")

    def _act(self, verb: str, worker: FakeWorker) -> None:
        if verb in ("enable", "disable"):
            worker.enabled = verb + "d"
        elif verb == "stop":
            worker.active, worker.sub = "inactive", "dead"
        else:
            worker.pid += 1
            worker.active, worker.sub, worker.health = "active", "running", "loading"
            if worker.fails == "failed":
                self.cluster.ticks.append(lambda: _set(worker, "failed", "failed"))
            elif worker.fails == "flaps":
                worker.health = "unreachable"
                self.cluster.ticks.append(lambda: setattr(worker, "restarts", 1))
            elif worker.fails != "loading":
                self.cluster.ticks.append(lambda: setattr(worker, "health", "ok"))


def _set(worker: FakeWorker, active: str, sub: str) -> None:
    worker.active, worker.sub = active, sub


class FakeChannel:
    """The transaction program: writes the cluster's files and says what the real one would say."""

    def __init__(self, cluster: FakeCluster, node: str, length: int) -> None:
        self._cluster = cluster
        self._node = node
        self._length = length
        self._data = b""
        self._lines: list[bytes] | None = None

    async def write(self, data: bytes) -> None:
        self._data += data

    async def write_eof(self) -> None:
        """All is sent."""

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        await asyncio.sleep(0)
        if self._lines is None:
            self._lines = [json.dumps(event).encode() + b"\n" for event in self._do()]
            if self._cluster.transaction_cuts:
                self._cluster.transaction_cuts -= 1
                raise Unreachable(self._node, "the connection was cut")
        return self._lines.pop(0) if self._lines else b""

    async def wait(self) -> Completed:
        return Completed(0, b"", b"")

    async def close(self) -> None:
        """Nothing is open."""

    def _do(self) -> list[dict[str, object]]:
        request = json.loads(self._data[self._length :])
        begun = self._cluster.begun
        untold = self._cluster.unrecorded
        told: list[dict[str, object]] = [{"event": "unrecorded", "error": untold}] if untold else []
        if request["do"] == "note":
            self._cluster.notes.append((request["event"], request["about"]))
            if request["event"] == "ended":
                begun[:] = [one for one in begun if one["plan"] != request["about"]["plan"]]
            return [{"event": "done"}]
        if request["do"] == "reshape" and begun:
            return [{"event": "failed", "step": "lock", "error": "locked by ann"}]
        if request["do"] == "reshape":
            more = {"minutes": 0, "over": False, "own": True, "record": "/var/tmp/record"}
            if not untold:
                begun.append({**request["about"], **more, "reshapings": request["reshapings"]})
            return [*told, {"event": "done"}]
        failed = self._cluster.reshapes_fail.get(self._node)
        if request["do"] == "reshapes" and failed is not None:
            return [{"event": "failed", "step": failed[0], "error": failed[1]}]
        if request["do"] == "reshapes":
            here = begun if self._node == "node1" else []
            return [{"event": "found", "plans": here}, {"event": "done"}]
        if request["do"] == "look" and self._cluster.look_fails is not None:
            step, error = self._cluster.look_fails
            return [{"event": "failed", "step": step, "error": error}]
        if request["do"] == "look":
            return [{"event": "found", "left": self._cluster.killed}, {"event": "done"}]
        self._cluster.ran.append((self._node, f"transaction: {request['holder']}"))
        if self._cluster.transaction_fails is not None:
            step, error = self._cluster.transaction_fails
            return [{"event": "failed", "step": step, "error": error}]
        for file in request["files"]:
            now = hashlib.sha256(self._cluster.files[file["target"]]).hexdigest()
            if now not in (file["before"], file["after"]):
                return [{"event": "failed", "step": "changed", "error": "changed by another hand"}]
        self._cluster.asked.append(request)
        drains = request["drains"] or {}
        for what in ("out", "in"):
            if drains.get(what):
                self._cluster.notes.append((what, {**drains["about"], "members": drains[what]}))
        for file in request["files"]:
            self._cluster.files[file["target"]] = file["text"].encode("latin-1")
        self._cluster.reloads += not drains.get("kept")
        return [{"event": "locked"}, *told, {"event": "confirmed"}, {"event": "done"}]

"""What the probe would read of a simulated machine, made without a process of its own.

A fleet's machines share this process: their probes would take more of this computer than all the
rest. The document is the probe's, part by part, and the engines' own readers make the workers.
"""

from __future__ import annotations

import fnmatch
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamatop import __version__
from llamatop.engines import llama_server, ollama, slots, vllm
from llamatop.probe import keepalive, launch, nvml, wire
from llamatop.probe.conversation import address
from llamatop.probe.workers import YOUNG_SECONDS

from . import board, headers
from .asking import Asking
from .card import DRIVER, Card
from .other_engines import Ollama
from .smi import MIB, throttle_bits
from .tasks import DISK, MEMLOCK_BYTES, MEMORY_BYTES, Task
from .unit import Unit
from .worker import Worker

if TYPE_CHECKING:
    from .machine import Machine

Document = dict[str, Any]
LOST = "nvidia-smi says GPU is lost; see `dmesg | grep -i xid`"
_LATE_TICKS = 1.5
_SINCE = {
    "active": "active_since",
    "reloading": "active_since",
    "activating": "started",
    "deactivating": "inactive_since",
    "inactive": "inactive_since",
    "failed": "inactive_since",
}


@dataclass(slots=True)
class _Talks:
    """Those of one worker's process, and of the llama-server that an Ollama spawned."""

    task: Task
    own: Asking
    child_task: Task | None = None
    child: Asking | None = None
    gpu_layers: str | None = None

    @property
    def asked_at(self) -> float:
        """When what is known of all of them had been asked."""
        talks = [self.own] if self.child is None else [self.own, self.child]
        return min(talk.asked_at for talk in talks)


class Reading:
    """One probe's knowledge of one machine; `document` is what its next line tells."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.tick = 0
        self.interval = 1.0
        self._globs: list[str] = []
        self._declared: dict[str, dict[str, Any]] = {}
        self._talks: dict[str, _Talks] = {}
        # The newest request for a look, when it came, and the newest that a line has answered.
        self._request: tuple[int, float] | None = None
        self._answered: int | None = None
        self._launched: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {}
        self._probe = {"version": __version__, "python": platform.python_version()}

    def configure(self, told: Document) -> None:
        """The line that sets a probe to work."""
        self.interval = max(0.1, float(told["interval"] or 1.0))
        self._globs = list(told.get("units") or [])
        self._declared = {_full(name): given for name, given in (told.get("workers") or {}).items()}

    def request(self, number: int) -> None:
        """The line that asks for a look: the next document answers it."""
        self._request = number, time.monotonic()

    def document(self) -> Document:
        """Everything of the machine now, as the wire carries it."""
        machine, now = self.machine, time.monotonic()
        machine.catch_up()
        self.tick += 1
        units = {name: self._unit(unit) for name, unit in machine.units.items()}
        kinds = {name: self._kind(unit) for name, unit in machine.units.items()}
        units = {name: {**units[name], "kind": kind} for name, kind in kinds.items() if kind}
        missing = self._declared.keys() - machine.units.keys()
        units |= {name: _missing(name) for name in sorted(missing)}
        names = [name for name in units if units[name]["kind"] == "worker"]
        workers = {name: self._worker(name, now) for name in names}
        since = 0.0
        if self._request is not None:
            (self._answered, since), self._request = self._request, None
        ages = {f"workers/{name}": self._age(name, now, since) for name in names}
        cleaned: Document = wire.clean(
            {
                "tick": self.tick,
                "answered": self._answered,
                "probe": self._probe,
                "faults": {},
                "ages": ages,
                "host": self._host(),
                "gpus": {card.uuid: gpu(card, machine.cards) for card in machine.cards},
                "units": units,
                "workers": workers,
                "models": self._models(workers),
                "tunnels": {},
            }
        )
        return cleaned

    # --- the host and its units ------------------------------------------------------------

    def _host(self) -> Document:
        table, cards = self.machine.table, len(self.machine.cards)
        return {
            "hostname": self.machine.name,
            "boot_id": table.boot_id,
            "cpu_count": table.cpu_count,
            "cpu_percent": round(100 * table.cores / table.cpu_count, 1),
            "memory_total_bytes": MEMORY_BYTES,
            "memory_used_bytes": table.memory_used_bytes // 1024 * 1024,
            "load1": round(table.load1, 2),
            "uptime_seconds": int(time.time() - table.booted),
            "driver_version": DRIVER if cards else None,
            "numa_cpus": board.numa_cpus(cards, table.cpu_count),
            "iommu": "off",
            "xids": [
                {"pci_bus_id": bus, "code": code, "at_seconds": at, "count": 1}
                for at, bus, code in reversed(self.machine.xids)
            ],
        }

    def _kind(self, unit: Unit) -> str | None:
        """What the probe takes the unit for, None where it leaves it out."""
        if unit.name in self._declared:
            return "worker"
        if self._globs and any(
            fnmatch.fnmatchcase(unit.name, end)
            for glob in self._globs
            for end in (glob, _full(glob))
        ):
            return "worker"
        return None if self._globs and unit.kind == "worker" else unit.kind

    def _unit(self, unit: Unit) -> Document:
        since = getattr(unit, _SINCE.get(unit.state, "active_since"))
        task = self.machine.table.tasks.get(unit.main_pid)
        return {
            "name": unit.name,
            "description": unit.description,
            "load_state": "loaded",
            "active_state": unit.state,
            "sub_state": unit.sub_state,
            "result": unit.result,
            "unit_file_state": "enabled" if unit.enabled else "disabled",
            "restarts": unit.restarts,
            "since": round(since) if since else None,
            "main_pid": unit.main_pid or None,
            "memory_bytes": task.resident_bytes if task is not None else None,
            "fragment_path": unit.shown,
            "need_daemon_reload": False,
            "restart_policy": "no" if unit.kind == "nginx" else "always",
            "user": "root" if unit.kind == "nginx" else "llama",
            **(keepalive.of_unit(list(unit.argv), {}, "llama") if unit.kind == "tunnel" else {}),
        }

    def _models(self, workers: Document) -> Document:
        """Of the llama-servers' models, the headers."""
        wanted = {worker["launch"].get("model") for worker in workers.values()}
        known = {shape.model.path: shape.model for shape in self.machine.shape.workers}
        return {path: headers.summary(known[path]) for path in sorted(wanted & known.keys())}

    # --- the workers -----------------------------------------------------------------------

    def _worker(self, name: str, now: float) -> Document:
        unit = self.machine.units.get(name)
        found: Document = {"unit": name, "launch": {}}
        if unit is None:
            found["fault"] = "no such unit on this node; correct its name in the cluster file"
            return found
        task = self.machine.table.tasks.get(unit.main_pid)
        described, secret = self._launch(unit, task)
        found["engine"] = described["engine"]
        found["launch"] = told = {k: v for k, v in described.items() if k != "engine"}
        talks = self._talked(unit, task, described, secret)
        if talks is not None and task is not None:
            found |= self._asked(talks, described["engine"], now)
            found["pids"] = self._family(task.pid)
        if task is not None:
            found["confines"] = self._confines(told)
        if not found.get("model"):
            found["model"] = told.get("alias") or llama_server.model_name(told.get("model"))
        if described["engine"] is None and task is not None and not found.get("fault"):
            found["fault"] = "runs none of llama-server, ollama and vllm; take it out of `units`"
        return found

    def _confines(self, told: Document) -> Document:
        table = self.machine.table
        return {
            "cpus": f"0-{table.cpu_count - 1}",
            "memory_nodes": table.memory_nodes,
            "memlock_bytes": MEMLOCK_BYTES,
            "model_filesystem": DISK if str(told.get("model")).startswith("/") else None,
        }

    def _launch(self, unit: Unit, task: Task | None) -> tuple[Document, Document]:
        """How it was started, and what of that never leaves the node."""
        mark = (unit.argv, task)
        kept = self._launched.get(unit.name)
        if kept is not None and kept[0] == mark:
            return kept[1], kept[2]
        if task is not None:
            process, source = launch.running(list(task.argv)), "process"
            environment = dict(task.environ)
        else:
            process, source = launch.find(list(unit.argv)), "unit"
            environment = dict(setting.split("=", 1) for setting in unit.environment)
        described: Document = {"engine": None}
        secret: Document = {}
        if process is not None:
            told = launch.describe(process, environment)
            described = {k: v for k, v in told.items() if not k.startswith("_")}
            described |= {"engine": process.engine, "source": source, "environment_known": True}
            secret = {k[1:]: v for k, v in told.items() if k.startswith("_")}
            if process.engine in ("llama-server", "vllm"):
                described["api_key"] = bool(secret.get("key") or secret.get("key_file"))
        self._launched[unit.name] = (mark, described, secret)
        return described, secret

    def _talked(
        self, unit: Unit, task: Task | None, described: Document, secret: Document
    ) -> _Talks | None:
        """The talks with its endpoints; a new process is a new talk."""
        kept = self._talks.get(unit.name)
        worker = unit.process
        if task is None or described["engine"] is None or not isinstance(worker, Worker):
            self._talks.pop(unit.name, None)
            return None
        if kept is None or kept.task is not task:
            given = self._declared.get(unit.name, {})
            where = address(described["engine"], given.get("url"), described, secret)
            key = given.get("key") or secret.get("key")
            own = Asking(worker.web, described["engine"], where, key)
            kept = self._talks[unit.name] = _Talks(task, own)
        if isinstance(worker, Ollama) and kept.child_task is not worker.child:
            _with_child(kept, worker)
        return kept

    def _asked(self, talks: _Talks, engine: str, now: float) -> Document:
        """What a tick's questions leave known of a worker."""
        if engine == vllm.NAME:
            young = time.time() - talks.task.started < YOUNG_SECONDS
            talks.own.memory["young"] = young and talks.own.sample.get("health") != "ok"
        talks.own.tick(now)
        found: Document = dict(talks.own.sample)
        own = self._identity(talks.task)
        if engine == ollama.NAME:
            children = []
            if talks.child is not None and talks.child_task is not None:
                talks.child.tick(now)
                child = {**talks.child.sample, "gpu_layers": talks.gpu_layers}
                children = [{**child, "identity": self._identity(talks.child_task)}]
            found = ollama.attach(found, children)
            found["identity"] = ",".join(filter(None, [own, found.get("identity")]))
        if "slots" in found:
            found["slots"] = slots.rows(found["slots"])
        if found.get("identity") is None:
            found["identity"] = own
        return {**found, "url": talks.own.url}

    def _identity(self, task: Task) -> str:
        return f"{task.pid}:{self.machine.table.start_ticks(task)}"

    def _family(self, pid: int) -> list[int]:
        found = [pid]
        for member in found:
            found += [task.pid for task in self.machine.table.children(member)]
        return found

    def _age(self, name: str, now: float, since: float) -> float | None:
        """Of an answer that is late, or had been asked for before `since`."""
        talks = self._talks.get(name)
        if talks is None or talks.own.answered_at is None:
            return None
        age = now - talks.own.answered_at
        late = age > _LATE_TICKS * self.interval or talks.asked_at < since
        return round(max(age, 0.0), 1) if late else None


def _with_child(talks: _Talks, worker: Ollama) -> None:
    """Have the talks be with the llama-server that this Ollama runs now, if any."""
    talks.child_task, talks.child, web = worker.child, None, worker.child_web
    process = None if worker.child is None else launch.running(list(worker.child.argv))
    if worker.child is None or process is None or web is None:
        return
    told = launch.describe(process, dict(worker.child.environ))
    where = address(process.engine, None, {"port": told["port"]}, {})
    talks.gpu_layers = told.get("gpu_layers")
    talks.child = Asking(web, process.engine, where, told.get("_key"))
    talks.child.memory["describe"] = True


def gpu(card: Card, cards: Sequence[Card]) -> Document:
    """GpuSample fields of one of a machine's cards, as nvidia-smi gives them."""
    found: Document = {
        "source": "nvidia-smi",
        "index": card.index,
        "uuid": card.uuid,
        "name": card.kind.name,
        "pci_bus_id": card.bus,
        "numa_node": board.numa_node(card.index, len(cards)),
        "links": board.links(card, cards),
    }
    if card.lost:
        return {**found, "fault": LOST, "processes": {}}
    return {
        **found,
        "utilization_percent": card.utilization_percent,
        "memory_used_bytes": card.memory_bytes // MIB * MIB,
        "memory_total_bytes": card.kind.memory_bytes,
        # As nvidia-smi prints it, and as the probe then rounds that.
        "power_watts": round(round(card.power, 2), 1),
        "power_limit_watts": card.kind.power_limit,
        "power_limit_default_watts": card.kind.power_limit,
        "persistence_mode": True,
        "ecc_uncorrected": 0,
        "retired_pages": 0,
        "retired_pages_pending": False,
        "temperature_celsius": round(card.temperature),
        "sm_clock_mhz": card.sm_clock,
        "sm_clock_max_mhz": card.kind.sm_clock_max,
        "memory_clock_mhz": card.memory_clock,
        "memory_clock_max_mhz": card.kind.memory_clock_max,
        "throttle": nvml.throttle(throttle_bits(card)),
        "pcie_generation": card.pcie_generation,
        "pcie_generation_max": card.kind.pcie_generation,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "processes": {str(pid): used // MIB * MIB for pid, used in card.processes.items()},
    }


def _missing(name: str) -> Document:
    return {
        "name": name,
        "kind": "worker",
        "description": name,
        "load_state": "not-found",
        "active_state": "inactive",
        "sub_state": "dead",
        "result": "success",
        "restarts": 0,
        "need_daemon_reload": False,
    }


def _full(name: str) -> str:
    return name if name.endswith(".service") else f"{name}.service"

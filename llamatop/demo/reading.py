"""What the probe would read of a simulated machine, made without a process of its own.

A fleet's machines share this process: their probes would take more of this computer than all the
rest. The document is the probe's, part by part, and the engines' own readers make the workers.
"""

from __future__ import annotations

import fnmatch
import platform
import time
from typing import TYPE_CHECKING, Any

from llamatop import __version__
from llamatop.probe import launch, nvml, wire
from llamatop.probe.conversation import address

from .asking import Asking
from .card import Card
from .smi import MIB, throttle_bits
from .tasks import MEMORY_BYTES, Task
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


class Reading:
    """One probe's knowledge of one machine; `document` is what its next line tells."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.tick = 0
        self.interval = 1.0
        self._globs: list[str] = []
        self._declared: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, Asking] = {}
        self._launched: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {}
        self._probe = {"version": __version__, "python": platform.python_version()}

    def configure(self, told: Document) -> None:
        """The line that sets a probe to work."""
        self.interval = max(0.1, float(told["interval"] or 1.0))
        self._globs = list(told.get("units") or [])
        self._declared = {_full(name): given for name, given in (told.get("workers") or {}).items()}

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
        ages = {f"workers/{name}": self._age(name, now) for name in names}
        cleaned: Document = wire.clean(
            {
                "tick": self.tick,
                "probe": self._probe,
                "faults": {},
                "ages": ages,
                "host": self._host(),
                "gpus": {card.uuid: gpu(card) for card in machine.cards},
                "units": units,
                "workers": workers,
                "tunnels": {},
            }
        )
        return cleaned

    # --- the host and its units ------------------------------------------------------------

    def _host(self) -> Document:
        table = self.machine.table
        return {
            "hostname": self.machine.name,
            "boot_id": table.boot_id,
            "cpu_count": table.cpu_count,
            "cpu_percent": round(100 * table.cores / table.cpu_count, 1),
            "memory_total_bytes": MEMORY_BYTES,
            "memory_used_bytes": table.memory_used_bytes // 1024 * 1024,
            "load1": round(table.load1, 2),
            "uptime_seconds": int(time.time() - table.booted),
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
            "fragment_path": str(unit.file),
            "need_daemon_reload": False,
        }

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
        asking = self._asking(unit, task, described, secret)
        if asking is not None and task is not None:
            found.update(asking.tick(now, self.interval))
            found["pids"] = self._family(task.pid)
            if found.get("identity") is None:
                found["identity"] = f"{task.pid}:{self.machine.table.start_ticks(task)}"
        if not found.get("model"):
            found["model"] = told.get("alias") or told.get("model")
        if described["engine"] is None and task is not None and not found.get("fault"):
            found["fault"] = "runs none of llama-server, ollama and vllm; take it out of `units`"
        return found

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
            described |= {"engine": process.engine, "source": source}
            secret = {k[1:]: v for k, v in told.items() if k.startswith("_")}
        self._launched[unit.name] = (mark, described, secret)
        return described, secret

    def _asking(
        self, unit: Unit, task: Task | None, described: Document, secret: Document
    ) -> Asking | None:
        """The talk with its endpoint; a new process is a new talk."""
        kept = self._asked.get(unit.name)
        worker = unit.process
        if task is None or described["engine"] is None or not isinstance(worker, Worker):
            self._asked.pop(unit.name, None)
            return None
        if kept is None or kept.task is not task:
            given = self._declared.get(unit.name, {})
            where = address(described["engine"], given.get("url"), described, secret)
            key = given.get("key") or secret.get("key")
            kept = self._asked[unit.name] = Asking(worker, task, described["engine"], where, key)
        return kept

    def _family(self, pid: int) -> list[int]:
        found = [pid]
        for member in found:
            found += [task.pid for task in self.machine.table.children(member)]
        return found

    def _age(self, name: str, now: float) -> float | None:
        asking = self._asked.get(name)
        if asking is None or asking.answered_at is None:
            return None
        age = now - asking.answered_at
        return round(age, 1) if age > _LATE_TICKS * self.interval else None


def gpu(card: Card) -> Document:
    """GpuSample fields of a card, as nvidia-smi gives them."""
    found: Document = {
        "source": "nvidia-smi",
        "index": card.index,
        "uuid": card.uuid,
        "name": card.kind.name,
        "pci_bus_id": card.bus,
    }
    if card.lost:
        return {**found, "fault": LOST, "processes": {}}
    return {
        **found,
        "utilization_percent": card.utilization_percent,
        "memory_used_bytes": card.memory_bytes // MIB * MIB,
        "memory_total_bytes": card.kind.memory_bytes,
        "power_watts": round(card.power, 1),
        "power_limit_watts": card.kind.power_limit,
        "temperature_celsius": round(card.temperature),
        "sm_clock_mhz": card.sm_clock,
        "sm_clock_max_mhz": card.kind.sm_clock_max,
        "memory_clock_mhz": card.memory_clock,
        "memory_clock_max_mhz": card.kind.memory_clock_max,
        "throttle": nvml.throttle(throttle_bits(card)),
        "pcie_generation": 3 if card.load else 1,
        "pcie_generation_max": 3,
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

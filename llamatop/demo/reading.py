"""What the probe would read of a simulated machine, made without a process of its own.

A fleet's machines share this process: their probes would take more of this computer than all the
rest. The document is the probe's, part by part, and the engines' own readers make the workers.
"""

from __future__ import annotations

import fnmatch
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llamatop import __version__
from llamatop.probe import keepalive, nvml, wire

from . import board, headers
from .card import DRIVER, Card
from .smi import MIB, throttle_bits
from .talks import Document, Talks
from .tasks import MEMORY_BYTES
from .unit import Unit

if TYPE_CHECKING:
    from .machine import Machine

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
        self._talks = Talks(machine)
        # The newest request for a look, when it came, and the newest that a line has answered.
        self._request: tuple[int, float] | None = None
        self._answered: int | None = None
        self._probe = {"version": __version__, "python": platform.python_version()}

    def configure(self, told: Document) -> None:
        """The line that sets a probe to work."""
        self.interval = max(0.1, float(told["interval"] or 1.0))
        self._globs = list(told.get("units") or [])
        self._talks.declared = {
            _full(name): given for name, given in (told.get("workers") or {}).items()
        }

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
        missing = self._talks.declared.keys() - machine.units.keys()
        units |= {name: _missing(name) for name in sorted(missing)}
        names = [name for name in units if units[name]["kind"] == "worker"]
        workers = {name: self._talks.worker(name, now) for name in names}
        since = 0.0
        if self._request is not None:
            (self._answered, since), self._request = self._request, None
        limit = _LATE_TICKS * self.interval
        ages = {f"workers/{name}": self._talks.age(name, now, since, limit) for name in names}
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
        if unit.name in self._talks.declared:
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
            **(keepalive.of_unit(list(unit.argv), {}) if unit.kind == "tunnel" else {}),
        }

    def _models(self, workers: Document) -> Document:
        """Of the llama-servers' models, the headers."""
        wanted = {worker["launch"].get("model") for worker in workers.values()}
        known = {shape.model.path: shape.model for shape in self.machine.shape.workers}
        return {path: headers.summary(known[path]) for path in sorted(wanted & known.keys())}


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

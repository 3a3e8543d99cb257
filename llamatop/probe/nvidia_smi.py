"""The cards through nvidia-smi, where NVML itself cannot be read; parses its CSV. Pure."""

from __future__ import annotations

import re

from .nvml import throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

# nvidia-smi's name -> (ours, factor); "MiB" columns become bytes
FIELDS = {
    "index": ("index", 1),
    "uuid": ("uuid", 0),
    "name": ("name", 0),
    "utilization.gpu": ("utilization_percent", 1),
    "memory.used": ("memory_used_bytes", 2**20),
    "memory.total": ("memory_total_bytes", 2**20),
    "power.draw": ("power_watts", 1.0),
    "power.limit": ("power_limit_watts", 1.0),
    "temperature.gpu": ("temperature_celsius", 1),
    "clocks.sm": ("sm_clock_mhz", 1),
    "clocks.max.sm": ("sm_clock_max_mhz", 1),
    "clocks.mem": ("memory_clock_mhz", 1),
    "clocks.max.mem": ("memory_clock_max_mhz", 1),
    "clocks_throttle_reasons.active": ("throttle", 0),
    "pcie.link.gen.current": ("pcie_generation", 1),
    "pcie.link.gen.max": ("pcie_generation_max", 1),
    "pcie.link.width.current": ("pcie_width", 1),
    "pcie.link.width.max": ("pcie_width_max", 1),
    "pci.bus_id": ("pci_bus_id", 0),
    "driver_version": ("driver_version", 0),
    "persistence_mode": ("persistence_mode", 0),
    "power.default_limit": ("power_limit_default_watts", 1.0),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected", 1),
    "retired_pages.single_bit_ecc.count": ("retired_pages", 1),
    "retired_pages.double_bit.count": ("retired_pages", 1),
    "retired_pages.pending": ("retired_pages_pending", 0),
}
_SWITCHES = ("persistence_mode", "retired_pages_pending")
_ON = {"Enabled": True, "Disabled": False, "Yes": True, "No": False}
_FORMAT = "--format=csv,noheader,nounits"
_REFUSED = re.compile(r'Field "([^"]+)" is not a valid field')


def query(fields: List[str]) -> List[str]:
    """The command for the figures of all cards."""
    return ["nvidia-smi", "--query-gpu=" + ",".join(fields), _FORMAT]


PROCESSES = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory", _FORMAT]


TOPOLOGY = ["nvidia-smi", "topo", "-m"]


def refused(output: str) -> str | None:
    """The field that this nvidia-smi does not know, from its complaint."""
    match = _REFUSED.search(output)
    return match.group(1) if match else None


def cards(output: str, fields: List[str]) -> Dict[str, Any]:
    """GpuSample fields by UUID; a line that does not fit is skipped, "[N/A]" is unknown."""
    found: Dict[str, Any] = {}
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) > len(fields) and "name" in fields:
            # a name may hold commas; nothing else does
            place = fields.index("name")
            extra = len(cells) - len(fields)
            cells[place : place + extra + 1] = [", ".join(cells[place : place + extra + 1])]
        if len(cells) != len(fields):
            continue
        sample: Dict[str, Any] = {"source": "nvidia-smi"}
        for field, cell in zip(fields, cells):  # noqa: B905 - strict came with 3.10
            name, factor = FIELDS[field]
            if name == "throttle":
                sample[name] = _throttle(cell)
            elif name in _SWITCHES:
                sample[name] = _ON.get(cell)
            elif name in sample:
                sample[name] = _sum(sample[name], _value(cell, factor))
            else:
                sample[name] = _value(cell, factor)
        if sample.get("uuid"):
            sample["fault"] = _fault(cells)
            found[sample["uuid"]] = sample
    return found


def processes(output: str) -> Dict[str, Dict[str, int | None]]:
    """Processes by UUID: pid to bytes, None where the driver hides it."""
    found: Dict[str, Dict[str, int | None]] = {}
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and cells[1].isdigit():
            used = int(cells[2]) * 2**20 if cells[2].isdigit() else None
            found.setdefault(cells[0], {})[cells[1]] = used
    return found


def _value(cell: str, factor: float) -> Any:
    if not cell or cell.startswith("["):
        return None
    if factor == 0:
        return cell
    try:
        number = float(cell)
    except ValueError:
        return None
    if not abs(number) < 2**62:
        return None
    return round(number, 1) if isinstance(factor, float) else int(number * factor)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _throttle(cell: str) -> List[str] | None:
    try:
        return throttle(int(cell, 16))
    except ValueError:
        return None


def _fault(cells: List[str]) -> str | None:
    lost = [cell for cell in cells if "is lost" in cell or cell == "[Unknown Error]"]
    if not lost:
        return None
    return "nvidia-smi says %s; see `dmesg | grep -i xid`" % lost[0].strip("[]")

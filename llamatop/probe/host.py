"""The machine as a whole: processors, memory, load; same as /proc/stat, meminfo, loadavg."""

from __future__ import annotations

import os

from . import board, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

    from .kernel_log import KernelLog

_FIXED_EVERY = 30


class Host:
    """Reads the machine; `cpu_percent` is unknown until there are two reads to compare."""

    def __init__(self, log: KernelLog) -> None:
        self._log = log
        self._before: Tuple[int, int] | None = None
        self._fixed: Dict[str, Any] = {}
        self._ticks = -1

    def sample(self) -> Dict[str, Any]:
        """HostSample fields; what cannot be read is absent."""
        self._ticks += 1
        if self._ticks % _FIXED_EVERY == 0:
            self._fixed = _fixed()
        found = dict(self._fixed, xids=self._log.sample())
        found.update(self._processors())
        found.update(_memory())
        load = procfs.try_read("loadavg")
        uptime = procfs.try_read("uptime")
        try:
            found["load1"] = float(load.split()[0]) if load else None
            found["uptime_seconds"] = int(float(uptime.split()[0])) if uptime else None
        except (ValueError, IndexError):
            pass
        return found

    def _processors(self) -> Dict[str, Any]:
        data = procfs.try_read("stat")
        if data is None:
            return {}
        found: Dict[str, Any] = {}
        try:
            ticks = [int(field) for field in data[: data.index(b"\n")].split()[1:9]]
        except ValueError:
            return {}
        count = data.count(b"\ncpu")
        found["cpu_count"] = count or None
        total, idle = sum(ticks), sum(ticks[3:5])
        if self._before is not None and total > self._before[0]:
            passed = total - self._before[0]
            worked = passed - (idle - self._before[1])
            found["cpu_percent"] = round(max(0.0, min(100.0, 100.0 * worked / passed)), 1)
        self._before = (total, idle)
        return found


def _fixed() -> Dict[str, Any]:
    boot = procfs.try_read("sys/kernel/random/boot_id")
    name = procfs.try_read("sys/kernel/hostname")
    return {
        "hostname": procfs.text(name.strip()) if name else os.uname()[1],
        "boot_id": procfs.text(boot.strip()) if boot else None,
        "driver_version": board.driver_version(),
        "numa_cpus": board.numa_cpus(),
        "iommu": board.iommu(),
    }


def _memory() -> Dict[str, Any]:
    data = procfs.try_read("meminfo")
    if data is None:
        return {}
    sizes: Dict[bytes, int] = {}
    for line in data.splitlines()[:8]:
        name, _, rest = line.partition(b":")
        words = rest.split()
        if words and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    total, available = sizes.get(b"MemTotal"), sizes.get(b"MemAvailable")
    if total is None:
        return {}
    if available is None:
        return {"memory_total_bytes": total}
    return {"memory_total_bytes": total, "memory_used_bytes": total - available}

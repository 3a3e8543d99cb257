"""The cards through NVML, with NVIDIA's own bindings; every call may fail, or never return."""

from __future__ import annotations

import gc
import importlib

from . import board, links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_UNINITIALIZED = 1
_PROCESSES_EVERY = 3
_FIXED_EVERY = 30
_MOST_PROCESS_MEMORY = 2**62

THROTTLE = {
    0x2: "applications_clocks_setting",
    0x4: "software_power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal_slowdown",
    0x40: "hardware_thermal_slowdown",
    0x80: "hardware_power_brake_slowdown",
    0x100: "display_clock_setting",
}

_MENDS = {
    2: "reboot, or reload the nvidia modules",
    9: "load the driver: modprobe nvidia",
    12: "install the driver (libnvidia-ml.so.1)",
    13: "update the driver",
    15: "it has fallen off the bus; see `dmesg | grep -i xid` and reboot the node",
    18: "reboot, or reload the nvidia modules: its library and kernel module differ",
}


class NvmlError(Exception):
    """NVML cannot be used here; the text is one sentence. `missing` where there is no driver."""

    def __init__(self, text: str, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(text)


class Nvml:
    """The library once initialised; runs on a thread of its own."""

    def __init__(self) -> None:
        self._cards: List[Card] = []
        self._links: Dict[str, Dict[str, str]] = {}
        self._linked = 0
        self.driver_version: str | None = None
        try:
            # before the bindings are compiled for nothing
            self._memory: Any = importlib.import_module("ctypes").CDLL(None)
            self._library: Any = importlib.import_module("pynvml")
        except ImportError as error:
            raise NvmlError(
                "python3 on this node lacks %s, which NVML needs; apt install python3"
                % (error.name or "a module")
            ) from None
        gc.collect()
        if hasattr(self._memory, "malloc_trim"):
            # compiling the bindings took more than all the rest of the probe
            self._memory.malloc_trim(0)
        try:
            self._library.nvmlInit()
            self._find()
        except self._library.NVMLError as error:
            raise NvmlError(sentence("NVML: ", error), missing=_code(error) == 12) from None

    def _find(self) -> None:
        library = self._library
        count = library.nvmlDeviceGetCount()
        self._cards = [Card(library, index) for index in range(count)]
        try:
            self.driver_version = _text(library.nvmlSystemGetDriverVersion())
        except (library.NVMLError, AttributeError):
            pass

    def sample(self, fresh: bool) -> Dict[str, Any]:
        """GpuSample fields by UUID; raises NvmlError when the library has lost its driver."""
        found: Dict[str, Any] = {}
        for card in self._cards:
            sample = card.sample(fresh)
            found[sample["uuid"]] = sample
        if self._cards and all(card.code == _UNINITIALIZED for card in self._cards):
            raise NvmlError("NVML: the driver was unloaded; modprobe nvidia")
        known = [card.known for card in self._cards if card.known is not None]
        if len(known) > self._linked:
            self._linked = len(known)
            self._links = links.read(self._library, known)
        for uuid, joined in self._links.items():
            if uuid in found:
                found[uuid]["links"] = joined
        return found

    def close(self) -> None:
        """Let go of the driver, so that the next attempt starts anew."""
        try:
            self._library.nvmlShutdown()
        except self._library.NVMLError:
            pass


class Card:
    """One card; what it does not support is asked once, what never changes rarely."""

    def __init__(self, library: Any, index: int) -> None:
        self.code: int | None = None
        self._library = library
        self._index = index
        self._handle: Any = None
        self._fixed: Dict[str, Any] = {"uuid": "GPU-%d" % index, "index": index, "source": "nvml"}
        self._processes: Dict[str, int | None] | None = None
        self._unsupported: set[str] = set()
        self._ticks = -1
        self._fault: str | None = None

    @property
    def known(self) -> Tuple[str, Any, str] | None:
        """UUID, handle and PCI bus; None for one that cannot be reached."""
        bus = self._fixed.get("pci_bus_id")
        return None if bus is None else (self._fixed["uuid"], self._handle, bus)

    def _optional(self, name: str, *arguments: Any) -> Any:
        """`_call` of what many cards do not tell: that it fails is no fault."""
        before = self._fault, self.code
        result = self._call(name, *arguments)
        self._fault, self.code = before
        return result

    def _call(self, name: str, *arguments: Any) -> Any:
        """The function's result, None where it fails; the first failure is the card's fault."""
        if name in self._unsupported:
            return None
        function = getattr(self._library, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._library.NVMLError as error:
            code = _code(error)
            if code in (NOT_SUPPORTED, 13):
                self._unsupported.add(name)
            elif code != _NO_PERMISSION:
                self.code = code
                self._fault = self._fault or sentence("", error)
        except (UnicodeDecodeError, ValueError):
            pass
        return None

    def sample(self, fresh: bool) -> Dict[str, Any]:
        """GpuSample fields of this card now."""
        self._ticks += 1
        self._fault = None
        self.code = None
        if self._handle is None and not self._open():
            return {**self._fixed, "fault": self._fault}
        if self._ticks % _FIXED_EVERY == 0:
            self._read_fixed()
        found = dict(self._fixed)
        rates = self._call("nvmlDeviceGetUtilizationRates")
        if rates is not None:
            found["utilization_percent"] = rates.gpu
        found.update(self._memory())
        power = self._call("nvmlDeviceGetPowerUsage")
        found["power_watts"] = None if power is None else round(power / 1000, 1)
        found["temperature_celsius"] = self._call("nvmlDeviceGetTemperature", 0)
        found["sm_clock_mhz"] = self._call("nvmlDeviceGetClockInfo", 1)
        found["memory_clock_mhz"] = self._call("nvmlDeviceGetClockInfo", 2)
        found["throttle"] = self._throttle()
        found["pcie_generation"] = self._call("nvmlDeviceGetCurrPcieLinkGeneration")
        found["pcie_width"] = self._call("nvmlDeviceGetCurrPcieLinkWidth")
        if fresh or self._ticks % _PROCESSES_EVERY == 0:
            self._processes = self._running()
        found["processes"] = self._processes
        if self._fault is not None:
            found["fault"] = self._fault
        return found

    def _open(self) -> bool:
        try:
            self._handle = self._library.nvmlDeviceGetHandleByIndex(self._index)
        except self._library.NVMLError as error:
            self.code = _code(error)
            self._fault = sentence("", error)
            return False
        return True

    def _read_fixed(self) -> None:
        uuid = self._call("nvmlDeviceGetUUID")
        limit = self._call("nvmlDeviceGetEnforcedPowerLimit")
        if limit is None:
            limit = self._call("nvmlDeviceGetPowerManagementLimit")
        bus = self._call("nvmlDeviceGetPciInfo")
        read = {
            "uuid": _text(uuid),
            "name": _text(self._call("nvmlDeviceGetName")),
            "power_limit_watts": None if limit is None else round(limit / 1000, 1),
            "sm_clock_max_mhz": self._call("nvmlDeviceGetMaxClockInfo", 1),
            "memory_clock_max_mhz": self._call("nvmlDeviceGetMaxClockInfo", 2),
            "pcie_generation_max": self._call("nvmlDeviceGetMaxPcieLinkGeneration"),
            "pcie_width_max": self._call("nvmlDeviceGetMaxPcieLinkWidth"),
            "pci_bus_id": None if bus is None else _text(bus.busId),
            **self._health(),
        }
        self._fixed.update({name: value for name, value in read.items() if value is not None})
        self._fixed["numa_node"] = board.numa_node(self._fixed.get("pci_bus_id"))
        self._fixed["iommu_group"] = board.iommu_group(self._fixed.get("pci_bus_id"))

    def _health(self) -> Dict[str, Any]:
        """How the card is set up and what has worn out; each may be unknown."""
        persistence = self._optional("nvmlDeviceGetPersistenceMode")
        usual = self._optional("nvmlDeviceGetPowerManagementDefaultLimit")
        return {
            "persistence_mode": None if persistence is None else bool(persistence),
            "power_limit_default_watts": None if usual is None else round(usual / 1000, 1),
            # slowdown is 1
            "temperature_slowdown_celsius": self._optional("nvmlDeviceGetTemperatureThreshold", 1),
            # uncorrected, since the driver was loaded
            "ecc_uncorrected": self._optional("nvmlDeviceGetTotalEccErrors", 1, 0),
            **self._retired(),
        }

    def _retired(self) -> Dict[str, Any]:
        rows = self._optional("nvmlDeviceGetRemappedRows")
        if rows is not None:
            return {"retired_pages": rows[0] + rows[1], "retired_pages_pending": bool(rows[2])}
        pending = self._optional("nvmlDeviceGetRetiredPagesPendingStatus")
        # for several single-bit errors, for one of two bits
        pages = [self._optional("nvmlDeviceGetRetiredPages", cause) for cause in (0, 1)]
        return {
            "retired_pages": None if None in pages else sum(map(len, pages)),
            "retired_pages_pending": None if pending is None else bool(pending),
        }

    def _memory(self) -> Dict[str, Any]:
        version = getattr(self._library, "nvmlMemory_v2", None)
        memory = None if version is None else self._call("nvmlDeviceGetMemoryInfo", version)
        if memory is None:
            self._unsupported.discard("nvmlDeviceGetMemoryInfo")
            memory = self._call("nvmlDeviceGetMemoryInfo")
        if memory is None:
            return {}
        return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}

    def _throttle(self) -> List[str] | None:
        reasons = self._call("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._call("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if reasons is None else throttle(reasons)

    def _running(self) -> Dict[str, int | None] | None:
        found: Dict[str, int | None] = {}
        known = False
        for name in (
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetGraphicsRunningProcesses",
        ):
            running = self._call(name)
            if running is None:
                continue
            known = True
            for process in running:
                used = process.usedGpuMemory
                if used is not None and used > _MOST_PROCESS_MEMORY:
                    used = None
                found[str(process.pid)] = used
        return found if known else None


def throttle(reasons: int) -> List[str]:
    """The names of the bits set in NVML's mask of reasons, without idle."""
    return [name for bit, name in THROTTLE.items() if reasons & bit]


def sentence(prefix: str, error: Any) -> str:
    """NVML's error as one sentence with its mend."""
    text = prefix + str(error)
    mend = _MENDS.get(_code(error) or 0)
    return text if mend is None else "%s; %s" % (text, mend)


def _code(error: Any) -> int | None:
    value = getattr(error, "value", None)
    return value if isinstance(value, int) else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else None

"""What was seen of a node's machine: the host, its cards and what its driver complained of."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Xid(Struct, frozen=True):
    """A fault that the driver wrote into the kernel's log; same as `dmesg | grep Xid`.

    `code` is NVIDIA's number (79: fallen off the bus), `at_seconds` the clock of
    `HostSample.uptime_seconds`, when it last came; `count` how often since the machine booted.
    """

    pci_bus_id: str
    code: int
    at_seconds: float | None = None
    count: int = 1


class HostSample(Struct, frozen=True):
    """The machine: `cpu_percent` is of all cores (0 to 100); same as /proc/stat, /proc/meminfo.

    `driver_version` is the NVIDIA driver's. `numa_cpus` maps a NUMA node to its processors
    (`0-15,32-47`). `xids` are the newest, () where the kernel's log can be read and holds none,
    None where this user may not read it. `iommu` is how it treats the cards: `passthrough` and
    `off` let them copy to each other directly, `translating` sends that through the processor.
    """

    hostname: str | None = None
    boot_id: str | None = None
    cpu_count: int | None = None
    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    load1: float | None = None
    uptime_seconds: float | None = None
    driver_version: str | None = None
    numa_cpus: dict[str, str] | None = None
    xids: tuple[Xid, ...] | None = None
    iommu: Literal["off", "passthrough", "translating"] | None = None


class GpuSample(Struct, frozen=True):
    """One card; same as `nvidia-smi -q`.

    `processes` maps a pid to its memory in bytes (None where the driver hides it). `throttle`
    holds the active reasons in NVML's words (`software_power_cap`, `hardware_slowdown`, …),
    without `idle`. `source` tells which interface answered. `fault` is one sentence.
    `ecc_uncorrected` counts errors since the driver was loaded; `retired_pages` are pages taken
    out of use for good, or rows remapped, `retired_pages_pending` that some wait for a reset.
    `links` maps another card's uuid to how it is reached, in the words of `nvidia-smi topo -m`:
    `NV4` (so many NVLinks), `PIX`, `PXB`, `PHB`, `NODE`, `SYS`; only cards of higher index, for
    it is the same both ways. Cards of one `iommu_group` are not kept apart by ACS.
    """

    uuid: str
    index: int | None = None
    name: str | None = None
    source: Literal["nvml", "nvidia-smi"] | None = None
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_celsius: float | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    throttle: tuple[str, ...] | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pci_bus_id: str | None = None
    persistence_mode: bool | None = None
    power_limit_default_watts: float | None = None
    temperature_slowdown_celsius: float | None = None
    ecc_uncorrected: int | None = None
    retired_pages: int | None = None
    retired_pages_pending: bool | None = None
    numa_node: int | None = None
    iommu_group: int | None = None
    links: dict[str, str] | None = None
    processes: dict[str, int | None] | None = None
    fault: str | None = None

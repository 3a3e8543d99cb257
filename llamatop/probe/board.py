"""How the machine is built: NUMA nodes, which of them a card hangs on, and the IOMMU's work."""

from __future__ import annotations

import os

from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

_DEVICES = "bus/pci/devices"


def numa_cpus() -> Dict[str, str] | None:
    """Processors by NUMA node; same as `lscpu`. None where the kernel does not tell."""
    found: Dict[str, str] = {}
    for name in _names("devices/system/node"):
        if name.startswith("node") and name[4:].isdigit():
            cpus = procfs.sys_line("devices/system/node/%s/cpulist" % name)
            if cpus is not None:
                found[name[4:]] = cpus
    return found or None


def numa_node(bus: str | None) -> int | None:
    """The NUMA node of a PCI device, None where the machine does not say (-1)."""
    told = None if bus is None else procfs.sys_line("%s/%s/numa_node" % (_DEVICES, address(bus)))
    return int(told) if told is not None and told.isdigit() else None


def iommu_group(bus: str | None) -> int | None:
    """The IOMMU group of a PCI device, None without an IOMMU.

    None too where the kernel was told to part groups whatever the hardware does
    (pcie_acs_override): they then tell nothing of it.
    """
    if bus is None:
        return None
    place = "%s/%s/%s/iommu_group" % (procfs.SYS, _DEVICES, address(bus))
    try:
        group = os.path.basename(os.readlink(place))
    except OSError:
        return None
    if not group.isdigit() or b"pcie_acs_override" in (procfs.try_read("cmdline") or b""):
        return None
    return int(group)


def address(bus: str) -> str:
    """A PCI address as the kernel writes it: NVML has a domain of eight digits, in capitals."""
    domain, _, rest = bus.lower().partition(":")
    return "%s:%s" % (domain[-4:].rjust(4, "0"), rest)


def iommu() -> str | None:
    """`off`, `passthrough` or `translating`, by the domains that NVIDIA's cards were put in.

    None where there is no card, or not each one's domain is told.
    """
    if not os.path.isdir(procfs.SYS + "/class"):
        return None
    if not _names("class/iommu"):
        return "off"
    kinds = [procfs.sys_line("%s/iommu_group/type" % card) for card in _cards()]
    if any(kind and kind != "identity" for kind in kinds):
        return "translating"
    return "passthrough" if kinds and all(kinds) else None


def _cards() -> list[str]:
    places = ["%s/%s" % (_DEVICES, name) for name in _names(_DEVICES)]
    return [
        place
        for place in places
        if procfs.sys_line(place + "/vendor") == "0x10de"
        and (procfs.sys_line(place + "/class") or "").startswith("0x03")
    ]


def driver_version() -> str | None:
    """Of the loaded NVIDIA kernel module; same as `modinfo -F version nvidia`."""
    return procfs.sys_line("module/nvidia/version")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(procfs.SYS + "/" + folder)
    except OSError:
        return []

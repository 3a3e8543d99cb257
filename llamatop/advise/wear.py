"""Cards that wear out, failed, or are lost."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot, GpuView

from .cards import place
from .dead import on_card
from .finding import Finding, Mend, Rule

RECENT_SECONDS = 24 * 3600.0
# Of the 64 pages that a card can retire.
MANY_PAGES = 48
_XIDS = {
    13: "a program's fault in a kernel",
    31: "a program's fault in memory",
    43: "a program was stopped",
    45: "a program was cut off",
    48: "an ECC error of two bits",
    62: "its microcontroller halted",
    63: "a page retired",
    64: "a page could not be retired",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    92: "many ECC errors",
    94: "a contained ECC error",
    95: "an uncontained ECC error",
    119: "its firmware did not answer",
    120: "its firmware failed",
}
_OF_PROGRAMS = (13, 31, 43, 45)


def ecc(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Memory that gave wrong bits which could not be put right."""
    for gpu in snapshot.gpus:
        count = gpu.sample.ecc_uncorrected
        if count:
            yield Finding(
                "gpu-ecc",
                "error",
                place(gpu),
                f"{count} uncorrected ECC errors since the driver was loaded",
                "what it computed may have been wrong, and its programs were killed for it",
                f"drain its worker and reset the card: nvidia-smi -i {_index(gpu)} -r;"
                " replace it if they come back",
            )


def pages(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Memory that was taken out of use, or waits to be."""
    for gpu in snapshot.gpus:
        retired, pending = gpu.sample.retired_pages or 0, gpu.sample.retired_pages_pending
        if not retired and not pending:
            continue
        waits = "; more wait for a reset" if pending else ""
        yield Finding(
            "gpu-pages-retired",
            "warning" if pending or retired >= MANY_PAGES else "info",
            place(gpu),
            f"{retired} pages of its memory retired{waits}",
            "its memory wears out; a card that goes on losing pages is near its end",
            f"drain its worker and reset the card: nvidia-smi -i {_index(gpu)} -r"
            if pending
            else "watch the number: nvidia-smi -q -d PAGE_RETIREMENT,ROW_REMAPPER",
        )


def xids(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Faults that the driver wrote into the kernel's log within a day."""
    cards = {
        (gpu.node, _slot(gpu.sample.pci_bus_id)): gpu
        for gpu in snapshot.gpus
        if gpu.sample.pci_bus_id
    }
    for node in snapshot.nodes:
        host = node.snapshot.host
        for xid in host.xids or ():
            age = None
            if host.uptime_seconds is not None and xid.at_seconds is not None:
                age = host.uptime_seconds - xid.at_seconds
                if age > RECENT_SECONDS:
                    continue
            gpu = cards.get((node.name, _slot(xid.pci_bus_id)))
            mild = xid.code in _OF_PROGRAMS
            lost = gpu is None or gpu.sample.fault is not None
            meaning = _XIDS.get(xid.code)
            yield Finding(
                "gpu-xid",
                "info" if mild else "error" if lost else "warning",
                node.name if gpu is None else place(gpu),
                f"XID {xid.code}{f' ({meaning})' if meaning else ''} at {xid.pci_bus_id}"
                + (f", {xid.count} times" if xid.count > 1 else "")
                + _ago(age),
                "the driver saw the card, or a program on it, fail",
                "read more in the kernel's log: dmesg | grep -i xid",
            )


def faults(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card that is lost, or whose driver cannot tell of it."""
    for gpu in snapshot.gpus:
        if gpu.sample.fault is not None:
            on = f"; on it: {', '.join(gpu.workers)}" if gpu.workers else ""
            serving = on_card(snapshot, gpu)
            yield Finding(
                "gpu-fault",
                "error",
                place(gpu),
                f"{gpu.sample.fault}{on}",
                "who is sent to its worker gets an error, or no answer",
                "drain its worker, then reset the card or reboot the node",
                Mend("drain", serving) if serving else None,
            )


def _index(gpu: GpuView) -> int | str:
    """How nvidia-smi calls it: without -i a reset takes all cards of the node."""
    return gpu.sample.uuid if gpu.sample.index is None else gpu.sample.index


def _slot(bus: str | None) -> str:
    """A PCI address without its function and leading zeros, which not all write."""
    return (bus or "").lower().partition(".")[0].lstrip("0")


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return ""
    hours = int(max(0.0, seconds) // 3600)
    return f", {hours} h ago" if hours else ", within the last hour"


RULES: tuple[Rule, ...] = (ecc, pages, xids, faults)

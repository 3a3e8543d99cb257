"""The node's cards: NVML on a thread of its own, so that a call that hangs ages the cards alone.

LLAMATOP_GPUS=nvidia-smi in the environment leaves NVML out.
"""

from __future__ import annotations

import os
import threading
import time

from . import board, links, nvidia_smi, nvml, procfs
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from .child import Ended
    from .reactor import Reactor

_RETRY_SECONDS = 30.0
_HANGING_SECONDS = 10.0
_SMI_DEADLINE_SECONDS = 20.0
_PROCESSES_EVERY = 5
# nvidia-smi may cost this share of a processor at most, and run half of the time
_SMI_SHARE = 0.05


class Gpus:
    """The latest figures of all cards, with their age and what stands in the way."""

    def __init__(self, loop: Reactor) -> None:
        self.cards: Dict[str, Any] = {}
        self.answered_at: float | None = None
        self.driver_version: str | None = None
        self._nvml_fault: str | None = None
        self._smi_fault: str | None = None
        self._loop = loop
        self._asked = threading.Event()
        self._fresh = False
        self._busy_since: float | None = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._result: Any = None
        self._smi = _Smi(loop, self._smi_cards)
        self._use_smi = os.environ.get("LLAMATOP_GPUS") == "nvidia-smi"
        if not self._use_smi:
            loop.watch(self._reader, 1, self._arrived)
            threading.Thread(target=self._run, name="nvml", daemon=True).start()

    def start(self, now: float, fresh: bool) -> None:
        """Ask for figures, unless an earlier question is still open."""
        if self._use_smi:
            self._smi.start(now, fresh)
        elif self._busy_since is None:
            self._busy_since = now
            self._fresh = fresh
            self._asked.set()

    @property
    def settled(self) -> bool:
        """Whether the cards have answered, or are known to be slow."""
        if self._use_smi:
            return self._smi.settled
        if self._busy_since is None:
            return True
        return time.monotonic() - self._busy_since > 1.0

    def fault(self, now: float) -> str | None:
        """Why there are no figures, or only old ones."""
        if self._busy_since is not None and now - self._busy_since > _HANGING_SECONDS:
            return "NVML has not answered for %d s; see `dmesg | grep -i -e xid -e nvrm`" % (
                now - self._busy_since
            )
        if self._use_smi and self.answered_at is not None and self._smi_fault is None:
            return self._nvml_fault if self.cards else None
        if self._nvml_fault is None and self._smi_fault is None:
            return None
        if not _has_card():
            return None
        return self._nvml_fault or self._smi_fault

    def _run(self) -> None:
        """The thread: one answer for every question, until the process ends."""
        library: nvml.Nvml | None = None
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                if library is None:
                    library = nvml.Nvml()
                    self.driver_version = library.driver_version
                self._result = library.sample(self._fresh)
            except nvml.NvmlError as error:
                self._result = error
                if library is not None:
                    library.close()
                    library = None
            except Exception as error:
                self._result = nvml.NvmlError("NVML answered something else: %r" % error)
            os.write(self._writer, b".")

    def _arrived(self, mask: int) -> None:
        try:
            os.read(self._reader, 64)
        except BlockingIOError:
            return
        result, now = self._result, time.monotonic()
        if isinstance(result, nvml.NvmlError):
            self._nvml_fault = str(result)
            self._use_smi = True
            self._busy_since = None
            self._smi.start(now, True)
            if not result.missing:
                self._loop.at(now + _RETRY_SECONDS, self._retry)
            return
        self._nvml_fault = None
        self._use_smi = False
        self._busy_since = None
        self.cards = result
        self.answered_at = now

    def _retry(self) -> None:
        if self._busy_since is None:
            self._busy_since = time.monotonic()
            self._asked.set()

    def _smi_cards(self, cards: Dict[str, Any] | None, fault: str | None) -> None:
        self._smi_fault = fault
        if cards is not None:
            for card in cards.values():
                self.driver_version = card.pop("driver_version", None)
            self.cards = cards
            self.answered_at = time.monotonic()
        elif not self._smi.present:
            self.cards = {}
            self.answered_at = time.monotonic()


class _Smi:
    """Runs nvidia-smi no oftener than it can afford."""

    def __init__(self, loop: Reactor, done: Any) -> None:
        self.present = True
        self._loop = loop
        self._done = done
        self._fields = list(nvidia_smi.FIELDS)
        self._running = False
        self._next_at = 0.0
        self._runs = 0
        self._processes: Dict[str, Any] | None = None
        self._links: Dict[int, Dict[int, str]] | None = None
        self._slow = False

    @property
    def settled(self) -> bool:
        return not self._running or self._slow

    def start(self, now: float, fresh: bool) -> None:
        if self._running or (now < self._next_at and not (fresh and self.present)):
            return
        self._running = True
        if self._runs % _PROCESSES_EVERY == 0 or fresh:
            Child(self._loop, nvidia_smi.PROCESSES, _SMI_DEADLINE_SECONDS, self._running_processes)
        else:
            self._query()
        self._runs += 1

    def _query(self) -> None:
        command = nvidia_smi.query(self._fields)
        Child(self._loop, command, _SMI_DEADLINE_SECONDS, self._cards, both=True)

    def _running_processes(self, ended: Ended) -> None:
        if ended.missing:
            self._running = self.present = False
            self._next_at = time.monotonic() + _RETRY_SECONDS
            self._done(None, ended.error)
            return
        self.present = True
        ok = ended.error is None
        self._processes = nvidia_smi.processes(procfs.text(ended.output)) if ok else None
        if self._links is None and ok:
            Child(self._loop, nvidia_smi.TOPOLOGY, _SMI_DEADLINE_SECONDS, self._matrix)
        else:
            self._query()

    def _matrix(self, ended: Ended) -> None:
        self._links = links.matrix(procfs.text(ended.output)) if ended.error is None else {}
        self._query()

    def _cards(self, ended: Ended) -> None:
        self._running = False
        self._slow = ended.seconds > 0.25
        pause = max(ended.cost_seconds / _SMI_SHARE, ended.seconds)
        self._next_at = time.monotonic() + min(_RETRY_SECONDS, pause) - 0.1
        output = procfs.text(ended.output)
        if ended.error is not None:
            field = nvidia_smi.refused(output)
            if field in self._fields and field != "uuid":
                self._fields.remove(field)
                self._next_at = 0.0
                return
            first = output.strip().splitlines()[:1]
            self._done(None, "nvidia-smi: %s" % (first[0] if first else ended.error))
            return
        cards = nvidia_smi.cards(output, self._fields)
        if self._processes is not None:
            for uuid, card in cards.items():
                card["processes"] = self._processes.get(uuid, {})
        for card in cards.values():
            card["numa_node"] = board.numa_node(card.get("pci_bus_id"))
            card["iommu_group"] = board.iommu_group(card.get("pci_bus_id"))
        if self._links:
            uuids = {card.get("index"): uuid for uuid, card in cards.items()}
            for card in cards.values():
                joined = self._links.get(card.get("index"), {})
                card["links"] = {uuids[i]: word for i, word in joined.items() if i in uuids}
        self._done(cards, None)


def _has_card() -> bool:
    """Whether the machine has an NVIDIA display adapter at all; a balancer has none to miss."""
    if os.path.isdir(procfs.ROOT + "/driver/nvidia"):
        return True
    root = procfs.SYS + "/bus/pci/devices"
    try:
        names = os.listdir(root)
    except OSError:
        return False
    for name in names:
        try:
            vendor = procfs.read("%s/%s/vendor" % (root, name))
            if vendor.strip() != b"0x10de":
                continue
            if procfs.read("%s/%s/class" % (root, name)).startswith(b"0x03"):
                return True
        except OSError:
            continue
    return False

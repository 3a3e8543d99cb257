"""What the NVIDIA driver complained of in the kernel's log: XIDs. Read on, never again whole."""

from __future__ import annotations

import errno
import os
import re
import stat
import time

from . import procfs
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    from .child import Ended
    from .reactor import Reactor

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
# what stands before a record of /dev/kmsg, and before a line of journalctl -o short-monotonic
_RECORD = re.compile(r"\d+,\d+,(\d+),")
_LINE = re.compile(r"\[ *(\d+\.\d+)\]")
_MOST_KEPT = 8
_MOST_RECORDS = 20_000
_RECORD_BYTES = 8192
_JOURNAL_EVERY = 300.0
# backwards, so that the newest are among those that are shown
_JOURNAL = ["journalctl", "-k", "-b", "-q", "-r", "-g", "NVRM: Xid", "-n", "200", "--since=-1d"]
_JOURNAL += ["--no-pager", "-o", "short-monotonic"]


class KernelLog:
    """The newest XIDs; from /dev/kmsg (or the file HOST_KMSG names), else from the journal."""

    def __init__(self, loop: Reactor) -> None:
        self._loop = loop
        self._found: Dict[Tuple[str, int], Any] = {}
        self._known = False
        self._journal_at = 0.0
        self._descriptor = _open()

    def sample(self) -> List[Any] | None:
        """Xid fields, the newest first; None where the log cannot be read."""
        if self._descriptor is not None:
            self._read_on(self._descriptor)
        elif time.monotonic() >= self._journal_at and _journal_is_open():
            self._journal_at = time.monotonic() + _JOURNAL_EVERY
            Child(self._loop, _JOURNAL, 20.0, self._from_journal)
        if not self._known:
            return None
        newest = sorted(self._found.values(), key=lambda xid: -(xid["at_seconds"] or 0.0))
        return [dict(xid) for xid in newest[:_MOST_KEPT]]

    def _read_on(self, descriptor: int) -> None:
        self._known = True
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    # some were overwritten before they were read
                    continue
                return
            if not record:
                return
            for line in record.splitlines():
                if b"NVRM: Xid" in line:
                    self._take(procfs.text(line))

    def _from_journal(self, ended: Ended) -> None:
        # without a match its status is 1, and it says nothing
        if ended.status != 0 and (ended.status != 1 or ended.complaint.strip()):
            return
        self._known = True
        self._found = {}
        for line in procfs.text(ended.output).splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        match = _XID.search(line)
        if match is None:
            return
        bus, code, at = match.group(1), int(match.group(2)), _moment(line)
        count = 1
        known = self._found.get((bus, code))
        if known is not None:
            count += known["count"]
            at = max(at or 0.0, known["at_seconds"] or 0.0) or None
        xid = {"pci_bus_id": bus, "code": code, "at_seconds": at, "count": count}
        self._found[bus, code] = xid


def _moment(line: str) -> float | None:
    """Seconds since boot of a line; None where it does not begin with a time."""
    record, shown = _RECORD.match(line), _LINE.match(line)
    if record is not None:
        return round(int(record.group(1)) / 1e6, 1)
    return None if shown is None else round(float(shown.group(1)), 1)


def _open() -> int | None:
    path = os.environ.get("HOST_KMSG")
    if path is None and procfs.ROOT != "/proc":
        return None
    try:
        descriptor = os.open(path or "/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # a container's is a pipe, and reading would take from it
        if path is None and not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
    except OSError:
        return None
    return descriptor


def _journal_is_open() -> bool:
    """Whether this user may read the system's journal, the kernel's part of it too."""
    if procfs.ROOT != "/proc":
        return False
    machine = procfs.text(_machine())
    return any(
        os.access("%s/%s/system.journal" % (folder, machine), os.R_OK)
        for folder in ("/var/log/journal", "/run/log/journal")
    )


def _machine() -> bytes:
    try:
        return procfs.read("/etc/machine-id").strip()
    except OSError:
        return b""

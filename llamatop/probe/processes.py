"""The processes that matter here, engines, ssh and nginx, by a scan that reads only new ones."""

from __future__ import annotations

from . import launch, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

_YOUNG_SCANS = 3
# a process number is used again sooner or later
_EVERYTHING_EVERY = 12


class Process:
    """A process of interest; `start` is its start time in clock ticks since boot."""

    __slots__ = ("engine", "kind", "nested", "pid", "start", "unit", "words")

    def __init__(self, pid: int, start: int, kind: str, words: List[str]) -> None:
        self.pid = pid
        self.start = start
        self.kind = kind
        self.words = words
        self.unit = procfs.unit(pid)
        self.nested = procfs.nested(pid)
        self.engine = launch.running(words) if kind == "engine" else None


class Processes:
    """A table kept from scan to scan: parents of all, details of the few that matter."""

    def __init__(self) -> None:
        self.found: Dict[int, Process] = {}
        self._parents: Dict[int, int] = {}
        self._starts: Dict[int, int] = {}
        self._young: Dict[int, int] = {}
        self._children: Dict[int, List[int]] = {}
        self._scans = 0

    def scan(self) -> None:
        """List /proc; read the processes that are new, still young, or of interest."""
        now = set(procfs.pids())
        self._scans += 1
        everything = self._scans % _EVERYTHING_EVERY == 0
        for pid in [pid for pid in self._starts if pid not in now]:
            self._drop(pid)
        changed = False
        for pid in now:
            dull = pid in self._starts and pid not in self.found and pid not in self._young
            if dull and not everything:
                continue
            changed = self._look(pid) or changed
        if changed or len(self._parents) != len(now):
            self._children = {}
            for pid, parent in self._parents.items():
                self._children.setdefault(parent, []).append(pid)

    def _look(self, pid: int) -> bool:
        stat = procfs.stat(pid)
        if stat is None:
            self._drop(pid)
            return False
        parent, start, _ = stat
        known = self._starts.get(pid) == start
        scans = self._young.get(pid, 0) + 1 if known else 1
        found = self.found.get(pid)
        # nginx retitles its workers when they begin to shut down
        settled = known and pid not in self._young and found is not None and found.kind != "nginx"
        if settled and self._parents.get(pid) == parent:
            return False
        self._starts[pid] = start
        self._parents[pid] = parent
        # a process starts as a copy of its parent and as its wrapper: look again for a while
        if scans < _YOUNG_SCANS:
            self._young[pid] = scans
        else:
            self._young.pop(pid, None)
        words = procfs.command_line(pid)
        kind = _kind(words)
        if kind is None:
            self.found.pop(pid, None)
        elif not known or pid not in self.found or self.found[pid].words != words:
            self.found[pid] = Process(pid, start, kind, words)
        return True

    def _drop(self, pid: int) -> None:
        for table in (self._starts, self._parents, self._young):
            table.pop(pid, None)
        self.found.pop(pid, None)

    def family(self, pid: int) -> List[int]:
        """The process and its descendants, as of the last scan."""
        found = [pid]
        for member in found:
            found.extend(child for child in self._children.get(member, ()) if child not in found)
        return found

    def of(self, kind: str) -> List[Process]:
        """All processes of a kind: "engine", "tunnel", "nginx"; not those inside containers."""
        return [
            process
            for process in self.found.values()
            if process.kind == kind and (kind == "engine" or not process.nested)
        ]


def _kind(words: List[str]) -> str | None:
    if not words:
        return None
    first = words[0]
    if first.startswith("nginx: "):
        return "nginx"
    base = first.rpartition("/")[2]
    if base in ("ssh", "autossh"):
        return "tunnel"
    if launch.running(words) is not None:
        return "engine"
    return None

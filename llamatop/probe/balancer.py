"""nginx as the node shows it: the processes that run, the files on disk, what is still draining."""

from __future__ import annotations

import os
import re
import socket
import struct
import time

from . import procfs
from .child import Child
from .drains import Records
from .includes import Files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Set

    from .child import Ended
    from .processes import Process, Processes
    from .reactor import Reactor

_CONF_PATH = re.compile(r"--conf-path=(\S+)")
_PREFIX = re.compile(r"--prefix=(\S+)")
_VERSION = re.compile(r"nginx version: \S*?/(\S+)")
_SHUTTING_DOWN = "nginx: worker process is shutting down"
_DEFAULT = "/etc/nginx/nginx.conf"
_LISTEN_EVERY = 5.0
_AGAIN_SECONDS = 5.0
# the kernel prints the listening sockets before all others
_LISTEN_BYTES = 65536
_LISTENING = b"0A"
_MOST_LISTENING = 128
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Balancer:
    """BalancerSample fields and the files of the configuration."""

    def __init__(self, loop: Reactor, processes: Processes) -> None:
        self._loop = loop
        self._processes = processes
        self._built: Dict[str, str] = {}
        self._asking = False
        self._ask_at = 0.0
        self.answered = False
        self._files = Files()
        self._records = Records()
        self._children: bytes | None = None
        self._unsettled = False
        self._draining = False
        self._listening: List[str] | None = None
        self._listen_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether `nginx -V` is not being waited for; `answered` is whether it has told."""
        return not self._asking

    def moved(self) -> bool:
        """Whether nginx's processes may have changed since the last look, or still drain."""
        masters = self._masters()
        children = None
        if masters:
            pid = masters[-1].pid
            children = procfs.try_read("%d/task/%d/children" % (pid, pid))
        before, self._children = self._children, children
        changed = children is None or children != before
        # the old workers get their new title a little after the new ones appear
        again, self._unsettled = self._unsettled, changed
        return changed or again or self._draining

    def start(self) -> None:
        """Ask how nginx was built, until that is told."""
        if not self.answered and not self._asking and time.monotonic() >= self._ask_at:
            self._asking = True
            masters = self._masters()
            program = _program(masters[0]) if masters else "nginx"
            Child(self._loop, [program or "nginx", "-V"], 5.0, self._told, both=True)

    def _told(self, ended: Ended) -> None:
        self._asking = False
        if ended.late:
            # a machine that is as slow as that has its files all the same
            self._ask_at = time.monotonic() + _AGAIN_SECONDS
            return
        self.answered = True
        output = procfs.text(ended.output)
        for name, pattern in (("conf", _CONF_PATH), ("prefix", _PREFIX), ("version", _VERSION)):
            match = pattern.search(output)
            if match:
                self._built[name] = match.group(1)

    def _masters(self) -> List[Process]:
        masters = [p for p in self._processes.of("nginx") if p.words[0].startswith("nginx: master")]
        return sorted(masters, key=lambda process: process.start)

    def sample(self) -> Dict[str, Any]:
        """What is known now; the files are read again only when one of them changed."""
        masters = self._masters()
        master = masters[-1] if masters else None
        words = master.words[0].split() if master is not None else []
        prefix = _option(words, "-p") or self._built.get("prefix") or "/etc/nginx"
        main = _option(words, "-c") or self._built.get("conf") or _DEFAULT
        main = os.path.join(os.path.dirname(self._built.get("conf") or _DEFAULT), main)
        found: Dict[str, Any] = {
            "kind": "nginx",
            "running": master is not None,
            "version": self._built.get("version"),
        }
        if self.answered:
            # before that it is not known which files are its own
            found["main"] = main
            found["files"] = self._files.read(main, prefix)
            found["fault"] = self._files.fault
        left = self._records.left(time.time())
        if left:
            found["left"] = left
        if master is not None:
            found["unit"] = master.unit
            found["listening"] = self._listens(master.pid)
            found.update(self._workers())
        return found

    def _listens(self, pid: int) -> List[str] | None:
        """The addresses with a listener, as nginx itself could reach them; looked at now and then.

        None where they cannot be read or are too many for the line.
        """
        now = time.monotonic()
        if now >= self._listen_at:
            self._listen_at = now + _LISTEN_EVERY
            self._listening = _listening(pid)
        return self._listening

    def _workers(self) -> Dict[str, Any]:
        workers = [p for p in self._processes.of("nginx") if "worker process" in p.words[0]]
        serving = [p for p in workers if not p.words[0].startswith(_SHUTTING_DOWN)]
        draining = [p for p in workers if p.words[0].startswith(_SHUTTING_DOWN)]
        self._draining = bool(draining)
        found: Dict[str, Any] = {"draining_processes": len(draining)}
        if serving and self._files.newest is not None:
            started = _boot() + max(process.start for process in serving) / _CLOCK_TICKS
            # a clock tick and the file system's own granularity
            found["reload_pending"] = self._files.newest > started + 0.05
        if not draining:
            found["draining_connections"] = {}
        else:
            found["draining_connections"] = _connections([process.pid for process in draining])
        return found


def _program(master: Process) -> str | None:
    words = master.words[0].split()
    return words[3] if len(words) > 3 and words[3].startswith("/") else None


def _option(words: List[str], flag: str) -> str | None:
    if flag in words[:-1]:
        return words[words.index(flag) + 1]
    return None


def _boot() -> float:
    """Unix time at which the kernel's start times begin."""
    uptime = procfs.try_read("uptime")
    try:
        return time.time() - float(uptime.split()[0]) if uptime else 0.0
    except (ValueError, IndexError):
        return 0.0


def _connections(pids: List[int]) -> Dict[str, int] | None:
    """Established connections of the processes by the address at the other end.

    Where this user may not read their file descriptors, all those of their owner are counted: to
    a member that is down only old workers hold any. None where neither can be read.
    """
    inodes: Set[bytes] | None = set()
    owners = set()
    for pid in pids:
        root = "%s/%d" % (procfs.ROOT, pid)
        try:
            owners.add(b"%d" % os.stat(root).st_uid)
            if inodes is not None:
                inodes |= _sockets(root + "/fd")
        except FileNotFoundError:
            continue
        except OSError:
            inodes = None
    # The processes share their network, so the first that still runs shows it.
    tables = [_tables(pid) for pid in pids]
    shown = next((rows for rows in tables if rows), None)
    if shown is None:
        return {} if inodes is not None else None
    found: Dict[str, int] = {}
    for line in shown:
        cells = line.split()
        if len(cells) < 10 or cells[3] != b"01":
            continue
        if cells[9] in inodes if inodes is not None else cells[7] in owners:
            remote = _address(cells[2].decode("latin-1"))
            if remote is not None:
                found[remote] = found.get(remote, 0) + 1
    return found


def _tables(pid: int) -> List[bytes]:
    """The rows of the process's connections, none where it has ended."""
    tables = [procfs.try_read("%d/net/%s" % (pid, name)) or b"" for name in ("tcp", "tcp6")]
    return [row for table in tables for row in table.splitlines()[1:]]


def _listening(pid: int) -> List[str] | None:
    found: Set[str] = set()
    for name in ("tcp", "tcp6"):
        data = procfs.try_read("%d/net/%s" % (pid, name), _LISTEN_BYTES)
        if data is None:
            if name == "tcp":
                return None
            continue
        for row in data.splitlines()[1:]:
            cells = row.split()
            if len(cells) < 4:
                continue
            if cells[3] != _LISTENING:
                break
            address = _address(cells[1].decode("latin-1"))
            if address is not None:
                found.add(address)
        else:
            if len(data) >= _LISTEN_BYTES:
                return None
    # nginx itself listens: a table without anybody is not the one it sees
    return sorted(found) if 0 < len(found) <= _MOST_LISTENING else None


def _sockets(folder: str) -> Set[bytes]:
    """The inodes of the sockets that a process holds."""
    inodes = set()
    for name in os.listdir(folder):
        try:
            target = os.readlink("%s/%s" % (folder, name))
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1].encode())
    return inodes


def _address(printed: str) -> str | None:
    """An address as /proc/net/tcp prints it, 32-bit words in the machine's byte order."""
    host, _, port = printed.partition(":")
    try:
        words = [int(host[place : place + 8], 16) for place in range(0, len(host), 8)]
        packed = struct.pack("=%dI" % len(words), *words)
        number = int(port, 16)
        if len(packed) == 4:
            return "%s:%d" % (socket.inet_ntop(socket.AF_INET, packed), number)
        if packed.startswith(b"\0" * 10 + b"\xff\xff"):
            return "%s:%d" % (socket.inet_ntop(socket.AF_INET, packed[12:]), number)
        return "[%s]:%d" % (socket.inet_ntop(socket.AF_INET6, packed), number)
    except (ValueError, struct.error):
        return None

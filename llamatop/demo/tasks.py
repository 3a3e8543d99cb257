"""The processes of a simulated machine, and the /proc tree that shows them."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MEMORY_BYTES = 128 * 2**30
MEMLOCK_BYTES = 8 * 2**20
DISK = "xfs"
BASE_MEMORY_BYTES = 3 * 2**30


class Task(Struct, eq=False):
    """One process; `started` is Unix seconds, `cpu_seconds` what it has used."""

    pid: int
    parent: int
    command: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    unit: str
    started: float
    resident_bytes: int = 8 * 2**20
    cpu_seconds: float = 0.0
    cores: float = 0.0


class Connection(Struct):
    """An established TCP connection of a process: (address, port) of both ends."""

    pid: int
    local: tuple[str, int]
    remote: tuple[str, int]
    inode: int


def _hex(end: tuple[str, int]) -> str:
    octets = [int(part) for part in end[0].split(".")]
    return f"{bytes(reversed(octets)).hex().upper()}:{end[1]:04X}"


class TaskTable(Struct):
    """All processes of one machine, from `show` on written under `root` as a kernel shows them.

    Files then appear at once for a new process; `refresh` brings the moving figures up to date.
    """

    root: Path
    hostname: str
    booted: float
    cpu_count: int = 16
    memory_nodes: str = "0"
    tasks: dict[int, Task] = field(default_factory=dict)
    connections: Sequence[Connection] = ()
    next_pid: int = 612
    busy_seconds: float = 0.0
    cores: float = 0.25
    refreshed: float = 0.0
    load1: float = 1.0
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    shown: bool = False
    shown_sockets: dict[int, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refreshed = time.time()
        self.busy_seconds = (self.refreshed - self.booted) * 2.2
        self.add(Task(1, 0, "systemd", ("/sbin/init",), {}, "init.scope", self.booted))

    def show(self) -> None:
        """Write everything, and keep it up to date from now on."""
        if self.shown:
            return
        self.shown = True
        random = self.root / "sys/kernel/random"
        random.mkdir(parents=True, exist_ok=True)
        (random / "boot_id").write_text(f"{self.boot_id}\n")
        (self.root / "sys/kernel/hostname").write_text(f"{self.hostname}\n")
        (self.root / "net").mkdir(exist_ok=True)
        (self.root / "self").symlink_to("1")
        for task in self.tasks.values():
            self._show(task)
        self.refresh()

    def new_pid(self) -> int:
        """A process number that was never given before."""
        self.next_pid += 1 + int(time.time() * 1000) % 7
        return self.next_pid

    def add(self, task: Task) -> Task:
        """Show a new process."""
        self.tasks[task.pid] = task
        if self.shown:
            self._show(task)
        return task

    def _show(self, task: Task) -> None:
        home = self.root / str(task.pid)
        (home / "fd").mkdir(parents=True, exist_ok=True)
        (home / "comm").write_text(task.command[:15] + "\n")
        (home / "environ").write_bytes(
            b"".join(f"{name}={value}".encode() + b"\0" for name, value in task.environ.items())
        )
        group = f"/system.slice/{task.unit}" if task.unit.endswith(".service") else "/init.scope"
        (home / "cgroup").write_text(f"0::{group}\n")
        (home / "net").symlink_to("../net")
        (home / "status").write_text(
            f"Name:\t{task.command[:15]}\nState:\tS (sleeping)\nTgid:\t{task.pid}\n"
            f"Pid:\t{task.pid}\nPPid:\t{task.parent}\nUid:\t998\t998\t998\t998\n"
            f"Cpus_allowed_list:\t0-{self.cpu_count - 1}\n"
            f"Mems_allowed_list:\t{self.memory_nodes}\n"
        )
        (home / "limits").write_text(
            f"{'Max locked memory':26}{MEMLOCK_BYTES:<21}{MEMLOCK_BYTES:<21}bytes\n"
        )
        (home / "mountinfo").write_text(f"21 1 8:2 / / rw,relatime - {DISK} /dev/sda2 rw\n")
        children = home / "task" / str(task.pid)
        children.mkdir(parents=True)
        self.retitle(task, task.argv)
        self._write_stat(task)
        self._write_children(task.parent)
        self._write_children(task.pid)

    def retitle(self, task: Task, argv: tuple[str, ...]) -> None:
        """Change the command line that is shown, as nginx does."""
        task.argv = argv
        if self.shown:
            self._write(self.root / str(task.pid) / "cmdline", "\0".join(argv) + "\0")

    def remove(self, pid: int) -> None:
        """The process is gone."""
        task = self.tasks.pop(pid, None)
        if task is None:
            return
        if not self.shown:
            return
        self.shown_sockets.pop(pid, None)
        home = self.root / str(pid)
        # Out of sight in one step, so that no reader finds half a process.
        gone = self.root / f".gone-{pid}"
        home.rename(gone)
        shutil.rmtree(gone)
        self._write_children(task.parent)

    @property
    def memory_used_bytes(self) -> int:
        """Memory that cannot be had for something new."""
        return BASE_MEMORY_BYTES + sum([task.resident_bytes for task in self.tasks.values()])

    def refresh(self) -> None:
        """Bring uptime, load, memory, CPU times and sockets up to date."""
        now = time.time()
        passed = now - self.refreshed
        self.refreshed = now
        self.cores = 0.25 + sum([task.cores for task in self.tasks.values()])
        self.busy_seconds += self.cores * passed
        self.load1 += (self.cores - self.load1) * min(1.0, passed / 60)
        for task in self.tasks.values():
            task.cpu_seconds += task.cores * passed
        if self.shown:
            self._write_figures(now)

    def _write_figures(self, now: float) -> None:
        for task in self.tasks.values():
            if task.cores:
                self._write_stat(task)
        up = now - self.booted
        idle = up * self.cpu_count - self.busy_seconds
        self._write(self.root / "uptime", f"{up:.2f} {idle:.2f}\n")
        self._write(
            self.root / "loadavg",
            f"{self.load1:.2f} {self.load1 * 0.98:.2f} {self.load1 * 0.96:.2f} "
            f"1/{200 + len(self.tasks)} {self.next_pid}\n",
        )
        user, rest = (int(value * TICKS_PER_SECOND) for value in (self.busy_seconds, idle))
        shares = "".join(
            f"cpu{number} {user // self.cpu_count} 0 0 {rest // self.cpu_count} 0 0 0 0 0 0\n"
            for number in range(self.cpu_count)
        )
        self._write(
            self.root / "stat",
            f"cpu  {user} 0 0 {rest} 0 0 0 0 0 0\n{shares}"
            f"intr 0\nctxt 0\nbtime {int(self.booted)}\nprocesses {self.next_pid}\n"
            "procs_running 2\nprocs_blocked 0\n",
        )
        total = MEMORY_BYTES // 1024
        free = (MEMORY_BYTES - self.memory_used_bytes) // 1024
        self._write(
            self.root / "meminfo",
            f"MemTotal:       {total} kB\nMemFree:        {free // 3} kB\n"
            f"MemAvailable:   {free} kB\nBuffers:        0 kB\nCached:         {free // 2} kB\n"
            "SwapTotal:      0 kB\nSwapFree:       0 kB\n",
        )
        self._write_sockets()

    def _write_sockets(self) -> None:
        rows = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"
            "   uid  timeout inode\n"
        ]
        sockets: dict[int, set[int]] = {}
        for number, link in enumerate(self.connections):
            rows.append(
                f"{number:4d}: {_hex(link.local)} {_hex(link.remote)} 01 00000000:00000000"
                " 00:00000000 00000000    33        0"
                f" {link.inode} 1 0000000000000000 20 4 0 10 -1\n"
            )
            sockets.setdefault(link.pid, set()).add(link.inode)
        self._write(self.root / "net/tcp", "".join(rows))
        for pid in sockets.keys() | self.shown_sockets.keys():
            if pid not in self.tasks:
                continue
            folder = self.root / str(pid) / "fd"
            have, want = self.shown_sockets.get(pid, set()), sockets.get(pid, set())
            for inode in have - want:
                (folder / str(inode % 100000)).unlink(missing_ok=True)
            for inode in want - have:
                (folder / str(inode % 100000)).symlink_to(f"socket:[{inode}]")
        self.shown_sockets = sockets

    def children(self, parent: int) -> list[Task]:
        """The processes that this one started."""
        return [task for task in self.tasks.values() if task.parent == parent]

    def start_ticks(self, task: Task) -> int:
        """When it started, in clock ticks since boot."""
        return max(int((task.started - self.booted) * TICKS_PER_SECOND), 1)

    def rewrite(self, task: Task) -> None:
        """Show a process whose figures were changed."""
        if self.shown:
            self._write_stat(task)

    def _write_stat(self, task: Task) -> None:
        used = int(task.cpu_seconds * TICKS_PER_SECOND)
        pages = task.resident_bytes // PAGE_BYTES
        self._write(
            self.root / str(task.pid) / "stat",
            f"{task.pid} ({task.command[:15]}) S {task.parent} {task.pid} {task.pid} 0 -1 4194560 "
            f"0 0 0 0 {used} 0 0 0 20 0 1 0 {self.start_ticks(task)} "
            f"{task.resident_bytes} {pages} " + "0 " * 27 + "0\n",
        )

    def _write_children(self, parent: int) -> None:
        folder = self.root / str(parent) / "task" / str(parent)
        if parent in self.tasks:
            pids = [task.pid for task in self.children(parent)]
            self._write(folder / "children", "".join(f"{pid} " for pid in pids))

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step: a reader sees the old figures or the new ones."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text)
        fresh.rename(path)

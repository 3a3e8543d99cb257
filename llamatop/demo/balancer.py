"""A simulated nginx: its configuration on disk, generations, least_conn, a front socket."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from .listening import both_ways, listen
from .nginx_files import WORKER_PROCESSES, members, read
from .shape import FRONT_PORT
from .spreading import Spread
from .tasks import Connection, Task
from .unit import LaunchError, Unit

if TYPE_CHECKING:
    from .machine import Machine
    from .workload import Road

VERSION = "1.22.1"
FAIL_SECONDS = 10.0
_numbers = count(40000)


class Link(Struct, eq=False):
    """One proxied request: the generation that serves it and the member that it went to."""

    generation: Generation
    spread: Spread
    address: str
    pid: int
    number: int
    nginx: Nginx

    def close(self) -> None:
        """The request is over."""
        if self in self.generation.links:
            self.generation.links.remove(self)
            self.spread.give_back(self.address)
            self.nginx.sweep()


class Generation(Struct, eq=False):
    """The workers that one start or reload made, and what they read in the configuration."""

    upstreams: dict[str, Spread]
    tasks: list[Task]
    links: set[Link] = field(default_factory=set)
    failed: dict[str, float] = field(default_factory=dict)
    turn: int = 0


class Nginx:
    """nginx on one machine; `main` is its main configuration file."""

    def __init__(self, machine: Machine, main: Path) -> None:
        self.machine = machine
        self.main = main
        self.master: Task | None = None
        self.unit: Unit | None = None
        self.generations: list[Generation] = []
        self.front: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    # --- configuration ----------------------------------------------------------------------

    def test(self, path: Path | None = None) -> tuple[int, str]:
        """What `nginx -t` returns and prints."""
        shown = path or self.main
        _, problems = read(path or self.main)
        if problems:
            return 1, (
                f"nginx: [emerg] {problems[0]}\nnginx: configuration file {shown} test failed\n"
            )
        return 0, (
            f"nginx: the configuration file {shown} syntax is ok\n"
            f"nginx: configuration file {shown} test is successful\n"
        )

    def dump(self) -> str:
        """What `nginx -T` prints on standard output."""
        files, _ = read(self.main)
        return "".join(
            f"# configuration file {file['file']}:\n{Path(file['file']).read_text()}\n"
            for file in files
        )

    # --- the process -----------------------------------------------------------------------

    async def launch(self, unit: Unit) -> int:
        """Start master and workers; raises LaunchError on a broken configuration."""
        self.unit = unit
        files, problems = read(self.main)
        pid = self.machine.table.new_pid()
        if problems:
            self.machine.journal.write(unit.name, "nginx", pid, f"nginx: [emerg] {problems[0]}", 3)
            raise LaunchError(1)
        program = self.machine.root / "bin/nginx"
        argv = (f"nginx: master process {program} -g daemon on; master_process on;",)
        self.master = self.machine.table.add(
            Task(pid, 1, "nginx", argv, {}, unit.name, time.time())
        )
        self._hatch(files)
        self.front = await listen(self._proxy, self.machine.address, FRONT_PORT)
        return pid

    def _hatch(self, files: list[dict[str, Any]]) -> None:
        if self.master is None or self.unit is None:
            return
        tasks = [
            self.machine.table.add(
                Task(
                    self.machine.table.new_pid(),
                    self.master.pid,
                    "nginx",
                    ("nginx: worker process",),
                    {},
                    self.unit.name,
                    time.time(),
                )
            )
            for _ in range(WORKER_PROCESSES)
        ]
        spreads = {
            name: Spread(found, least_conn) for name, (found, least_conn) in members(files).items()
        }
        self.generations.append(Generation(spreads, tasks))

    async def reload(self) -> bool:
        """HUP: new workers on a valid configuration; the old ones finish their streams."""
        files, problems = read(self.main)
        if problems or self.master is None:
            if problems and self.unit is not None:
                self.machine.journal.write(
                    self.unit.name, "nginx", self.unit.main_pid, f"[emerg] {problems[0]}", 3
                )
            return False
        await asyncio.sleep(0.04)
        self._hatch(files)
        # Whoever sees that they shut down must see what they still hold.
        self.machine.refresh()
        for generation in self.generations[:-1]:
            for task in generation.tasks:
                self.machine.table.retitle(task, ("nginx: worker process is shutting down",))
        self.sweep()
        return True

    def sweep(self) -> None:
        """End the old workers whose last stream has ended."""
        for generation in self.generations[:-1]:
            busy = {link.pid for link in generation.links}
            for task in list(generation.tasks):
                if task.pid not in busy:
                    generation.tasks.remove(task)
                    self.machine.table.remove(task.pid)
            if not generation.tasks:
                self.generations.remove(generation)

    async def terminate(self) -> None:
        """Stop: every connection is cut."""
        self.kill()

    def kill(self) -> None:
        """All of it gone at once."""
        if self.front is not None:
            self.front.close()
            self.front = None
        for writer in list(self.writers):
            writer.close()
        for generation in self.generations:
            generation.links.clear()
            for task in generation.tasks:
                self.machine.table.remove(task.pid)
        self.generations = []
        if self.master is not None:
            self.machine.table.remove(self.master.pid)
            self.master = None

    # --- traffic ---------------------------------------------------------------------------

    def choose(self, upstream: str) -> Link | None:
        """A link to the member whose turn it is in the newest generation."""
        if not self.generations:
            return None
        generation = self.generations[-1]
        spread = generation.upstreams.get(upstream)
        member = spread.take(generation.failed, time.monotonic()) if spread is not None else None
        if spread is None or member is None:
            return None
        generation.turn += 1
        task = generation.tasks[generation.turn % len(generation.tasks)]
        link = Link(generation, spread, member.address, task.pid, next(_numbers), self)
        generation.links.add(link)
        return link

    def refuse(self, link: Road) -> None:
        """The member refused the connection: it gets none for a while."""
        if isinstance(link, Link):
            link.generation.failed[link.address] = time.monotonic() + FAIL_SECONDS
        link.close()

    def connections(self, draining: bool = False) -> list[Connection]:
        """The upstream connections of the workers, or of those alone that shut down."""
        found = []
        for generation in self.generations[:-1] if draining else self.generations:
            for link in generation.links:
                host, _, port = link.address.rpartition(":")
                local = (self.machine.address, 32768 + link.number % 28000)
                found.append(Connection(link.pid, local, (host, int(port)), 10**6 + link.number))
        return found

    def _located(self, head: bytes) -> tuple[str, bytes]:
        """The upstream that a request is for, and the request as that gets it."""
        known = self.generations[-1].upstreams if self.generations else {}
        for name in known:
            prefix = f" /{name}/".encode()
            if prefix in head.partition(b"\r\n")[0]:
                return name, head.replace(prefix, b" /", 1)
        return self.machine.upstream, head

    async def _proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request from the front socket to a member, bytes as they come, then close."""
        self.writers.add(writer)
        link: Link | None = None
        onward: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            upstream, head = self._located(head)
            while (link := self.choose(upstream)) is not None:
                host, _, port = link.address.rpartition(":")
                try:
                    back, onward = await asyncio.open_connection(host, int(port))
                    break
                except OSError:
                    self.refuse(link)
            if link is None or onward is None:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 0\r\n")
                writer.write(b"Connection: close\r\n\r\n")
                await writer.drain()
                return
            lines = head[:-2].split(b"\r\n")
            kept = [line for line in lines if not line.lower().startswith(b"connection:")]
            onward.write(b"\r\n".join(kept[:-1]) + b"\r\nConnection: close\r\n\r\n")
            await both_ways(reader, writer, back, onward)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # One side is gone; the other is closed below.
        finally:
            if link is not None:
                link.close()
            if onward is not None:
                onward.close()
            self.writers.discard(writer)
            writer.close()

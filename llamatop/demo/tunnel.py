"""A simulated autossh: real listening sockets that lead to another machine's workers."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from .listening import both_ways, listen
from .tasks import Task
from .unit import LaunchError, Unit

if TYPE_CHECKING:
    from .machine import Machine


class Forward(Struct, frozen=True):
    """One -L: the port on this machine, and the other machine's address and port."""

    port: int
    host: str
    host_port: int


class Tunnel:
    """All forwards to one other machine, held by one autossh with its ssh child.

    `astray` is how far beside its targets it leads, 0 where it is right.
    """

    def __init__(self, machine: Machine, destination: str, forwards: tuple[Forward, ...]) -> None:
        self.machine = machine
        self.destination = destination
        self.forwards = forwards
        self.servers: list[asyncio.Server] = []
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: list[Task] = []
        self.broken = False
        self.astray = 0
        self.unit: Unit | None = None

    def argv(self) -> tuple[str, ...]:
        """The unit's command line."""
        words = ["/usr/bin/autossh", "-M", "0", "-N", "-o", "ServerAliveInterval=5"]
        words += ["-o", "ExitOnForwardFailure=yes"]
        for forward in self.forwards:
            here = f"{self.machine.address}:{forward.port}"
            words += ["-L", f"{here}:{forward.host}:{forward.host_port + self.astray}"]
        return (*words, self.destination)

    @property
    def alive(self) -> bool:
        """Whether something answers behind its sockets."""
        return bool(self.servers) and not self.broken and not self.astray

    async def lead(self, astray: int) -> None:
        """Start it anew towards other ports, as an edit of its unit does."""
        self.astray = astray
        if self.unit is not None:
            self.unit.argv = self.argv()
            self.unit.file.write_text(self.unit.text())
            await self.unit.restart()

    async def launch(self, unit: Unit) -> int:
        """Start autossh and its ssh."""
        self.unit = unit
        pid = self.machine.table.new_pid()
        now = time.time()
        for forward in self.forwards:
            try:
                server = await listen(
                    partial(self._carry, forward),
                    self.machine.address,
                    forward.port,
                )
            except OSError as error:
                self.kill()
                raise LaunchError(255) from error
            self.servers.append(server)
        argv = self.argv()
        child = ("/usr/bin/ssh", "-N", *argv[4:])
        add = self.machine.table.add
        self.tasks = [add(Task(pid, 1, "autossh", argv, {}, unit.name, now))]
        ssh = self.machine.table.new_pid()
        self.tasks.append(add(Task(ssh, pid, "ssh", child, {}, unit.name, now)))
        return pid

    async def terminate(self) -> None:
        """Stop: every forwarded connection is cut."""
        self.kill()

    def kill(self) -> None:
        """Gone at once."""
        for server in self.servers:
            server.close()
        self.servers = []
        for writer in list(self.writers):
            writer.close()
        for task in self.tasks:
            self.machine.table.remove(task.pid)
        self.tasks = []

    async def reload(self) -> bool:
        """autossh has no reload."""
        return False

    async def _carry(
        self, forward: Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writers.add(writer)
        try:
            if self.broken:
                return
            port = forward.host_port + self.astray
            back, onward = await asyncio.open_connection(forward.host, port)
            try:
                await both_ways(reader, writer, back, onward)
            finally:
                onward.close()
        except OSError:
            pass  # The other machine refused or cut it: so does the tunnel.
        finally:
            self.writers.discard(writer)
            writer.close()

"""A machine behind ssh: one connection, made on first use and made again when cut."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
from pathlib import Path
from typing import Final

from llamatop.errors import NoAnswer, Unreachable
from llamatop.model.plan import Command

from .base import Completed
from .deliveries import Deliveries
from .descriptors import exhausted
from .paramiko_alone import paramiko
from .ssh_channel import SshChannel
from .ssh_config import SshOptions, route, target
from .ssh_connect import connect
from .ssh_link import Link
from .streams import command_bytes, complete, shortened
from .threads import in_thread
from .turns import Turns

OPEN_TIMEOUT_SECONDS: Final = 15.0
ALIVE_SECONDS: Final = 2.0
ALIVE_COUNT: Final = 3
# sshd allows ten sessions; the probe and the journals that are read take some of them.
RUNS_AT_ONCE: Final = 5


class SshMachine:
    """One machine behind ssh, shared by everything that talks to its node.

    `turns` bounds how many machines are logged in to at once, `deliveries` how often the loop is
    woken; a cluster's machines share both.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        ssh_config: Path | None = None,
        known_hosts: Path | None = None,
        turns: Turns | None = None,
        deliveries: Deliveries | None = None,
    ) -> None:
        self._name = name
        self._host = host
        self._options = SshOptions(ssh_config, known_hosts)
        self._logins = turns or Turns()
        self._deliveries = deliveries or Deliveries()
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._begun: asyncio.Task[Link] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._channels: set[SshChannel] = set()
        self._turns = asyncio.Semaphore(RUNS_AT_ONCE)

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return self._name

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        """Run to the end, a few at once; the time-out counts from the start of the program.

        The time to connect has its own.
        """
        await self._connected()
        async with self._turns:
            channel = await self.open(command)
            return await complete(self._name, channel, command, stdin, timeout_seconds)

    async def open(self, command: Command) -> SshChannel:
        """Start a program; raises Unreachable (HostKeyFault) where there is no connection."""
        line = command_bytes(self._name, command)
        self._deliveries.settle()
        link = await self._connected()
        started = await self._start(link, line, command)
        channel = SshChannel(self._name, link, started, self._channels.discard, self._deliveries)
        self._channels.add(channel)
        return channel

    async def _start(self, link: Link, line: bytes, command: Command) -> paramiko.Channel:
        """Ask for a channel and a program in it, each a round trip, off the loop."""
        given_up = threading.Event()

        def start() -> paramiko.Channel:
            link.expect()
            channel = link.transport.open_session(timeout=OPEN_TIMEOUT_SECONDS)
            try:
                channel.exec_command(line)
            except BaseException:
                channel.close()
                raise
            if given_up.is_set():
                channel.close()
            return channel

        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                return await in_thread(start)
        except TimeoutError:
            raise Unreachable(
                self._name,
                f"`{shortened(command)}` did not start within {OPEN_TIMEOUT_SECONDS:g} s",
                "the machine may be out of memory or processes",
            ) from None
        except paramiko.ChannelException as error:
            raise Unreachable(
                self._name,
                f"sshd there opens no further session ({error.text or 'no reason given'})",
                "raise MaxSessions in its sshd_config",
            ) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            if link.alive:
                raise Unreachable(
                    self._name,
                    f"sshd there does not start `{shortened(command)}` ({error})",
                    "a forced command or a login shell that is missing may be in the way",
                ) from None
            raise NoAnswer(
                self._name, f"the connection was cut ({link.reason or 'while starting a program'})"
            ) from None
        finally:
            given_up.set()

    def begin(self) -> None:
        """Begin to connect, for whoever uses it next; what goes wrong is told to them."""
        if self._link is None or not self._link.alive:
            self._begun = self._attempt()

    def _attempt(self) -> asyncio.Task[Link]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_mark_seen)
        return self._connecting

    async def _connected(self) -> Link:
        """The link, connecting where there is none; all who wait share one attempt."""
        if self._link is not None and self._link.alive:
            return self._link
        attempt, self._begun = self._begun or self._attempt(), None
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if attempt.cancelled() and (task is None or not task.cancelling()):
                raise Unreachable(self._name, "the connection was closed here") from None
            raise

    async def _connect(self) -> Link:
        await self._let_go("it was dead")
        link = Link()
        try:
            await in_thread(
                lambda: connect(self._name, self._host, self._options, link, self._logins)
            )
        except BaseException as error:
            link.close("it was given up")
            if isinstance(error, OSError) and (fault := exhausted(self._name, error)):
                raise fault from None
            raise
        link.let_read(self._deliveries)
        self._link = link
        self._guard = asyncio.create_task(self._watch(link))
        return link

    async def _watch(self, link: Link) -> None:
        """Cut a link whose other side has gone silent, a few seconds after it has."""
        config = link.hops[-1].config
        interval = min(config.seconds("serveraliveinterval") or ALIVE_SECONDS, ALIVE_SECONDS)
        missed = 0
        seen = link.received
        while link.alive:
            await asyncio.sleep(interval - asyncio.get_running_loop().time() % interval)
            if link.received != seen:
                missed, seen = 0, link.received
                continue
            missed += 1
            if missed > ALIVE_COUNT:
                link.close(f"no answer for {missed * interval:g} s")
            elif link.may_send():
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    link.transport.ask_alive()
        link.close()

    def shell_argv(self) -> list[str]:
        """`ssh -t HOST` with the same configuration and known hosts, at every hop."""
        if self._options.known_hosts is None:
            return ["ssh", *self._options.argv(), "-t", *target(self._host)]
        return route(self._name, self._host, self._options)[-1].ssh_argv("-t")

    async def close(self) -> None:
        """Close the connection; everything open ends with Unreachable. Safe to call twice."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for channel in tuple(self._channels):
            await channel.close()
        await self._let_go("it was closed here")

    async def _let_go(self, reason: str) -> None:
        link, self._link = self._link, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)
        if link is not None:
            link.close(reason)

    def __repr__(self) -> str:
        return f"SshMachine({self._name!r}, {shlex.quote(self._host)})"


def _mark_seen(task: asyncio.Task[Link]) -> None:
    """Whoever waited has gone: the failure is not an unhandled one."""
    if not task.cancelled():
        task.exception()

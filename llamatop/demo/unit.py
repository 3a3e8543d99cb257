"""A simulated systemd unit: its states in systemd's own words and how it passes through them."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from llamatop.model.observed import UnitKind

from .journal import Journal

RESTART_SECONDS = 2.0
# Where the machine's own tools show its unit files; they lie under its root.
SHOWN = "/etc/systemd/system"


class LaunchError(Exception):
    """The process ended before it was up, with this exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Process(Protocol):
    """What runs behind a unit."""

    async def launch(self, unit: Unit) -> int:
        """Start; gives the main pid. Raises LaunchError."""

    async def terminate(self) -> None:
        """SIGTERM: returns when the process is gone."""

    def kill(self) -> None:
        """SIGKILL: gone at once."""

    async def reload(self) -> bool:
        """Reload; false where the process refuses."""


class Unit(Struct, eq=False):
    """One service; `file` is its unit file on the simulated machine.

    `state` and `sub_state` are ActiveState and SubState; times are Unix seconds, 0 for never.
    """

    name: str
    kind: UnitKind
    description: str
    argv: tuple[str, ...]
    process: Process
    journal: Journal
    file: Path
    type: str = "simple"
    environment: tuple[str, ...] = ()
    enabled: bool = True
    state: str = "inactive"
    sub_state: str = "dead"
    result: str = "success"
    restarts: int = 0
    main_pid: int = 0
    exit_status: int = 0
    memory_bytes: int | None = None
    invocation: str = ""
    active_since: float = 0.0
    inactive_since: float = 0.0
    changed: float = 0.0
    started: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    restarting: asyncio.Task[None] | None = None

    def text(self) -> str:
        """The unit file."""
        lines = ["[Unit]", f"Description={self.description}", "After=network-online.target", ""]
        lines += ["[Service]", f"Type={self.type}"]
        lines += [f'Environment="{setting}"' for setting in self.environment]
        lines += [f"ExecStart={' '.join(self.argv)}"]
        if self.kind == "nginx":
            lines += ["ExecReload=/usr/sbin/nginx -s reload"]
        else:
            lines += ["Restart=always", f"RestartSec={RESTART_SECONDS:g}", "User=llama"]
        return "\n".join([*lines, "", "[Install]", "WantedBy=multi-user.target", ""])

    @property
    def shown(self) -> str:
        """Its file's path as the machine's own tools give it."""
        return f"{SHOWN}/{self.name}"

    @property
    def runs(self) -> bool:
        """Whether its process exists."""
        return self.main_pid != 0

    def _enter(self, state: str, sub_state: str) -> None:
        now = time.time()
        if state == "active" and self.state != "active":
            self.active_since = now
        if state in ("inactive", "failed") and self.state not in ("inactive", "failed"):
            self.inactive_since = now
        self.state, self.sub_state, self.changed = state, sub_state, now

    def _log(self, text: str, priority: int = 6) -> None:
        self.journal.write(self.name, "systemd", 1, text, priority)

    async def start(self) -> bool:
        """Same as `systemctl start`; false where the start failed."""
        async with self.lock:
            self._forget_restart()
            return True if self.state == "active" else await self._start()

    async def stop(self) -> None:
        """Same as `systemctl stop`."""
        async with self.lock:
            self._forget_restart()
            await self._stop()

    async def restart(self) -> bool:
        """Same as `systemctl restart`."""
        async with self.lock:
            self._forget_restart()
            await self._stop()
            return await self._start()

    async def reload(self) -> bool:
        """Same as `systemctl reload`."""
        async with self.lock:
            if self.state != "active":
                return False
            self._log(f"Reloading {self.name} - {self.description}...")
            self._enter("reloading", "reload")
            done = await self.process.reload()
            self._enter("active", "running")
            self._log(f"Reloaded {self.name} - {self.description}.")
            return done

    async def _start(self) -> bool:
        self.invocation = uuid.uuid4().hex
        self.result, self.exit_status = "success", 0
        self._enter("activating", "start" if self.type != "simple" else "start-pre")
        try:
            pid = await self.process.launch(self)
        except LaunchError as failure:
            self._ended(failure.status, "exit-code")
            self._log(f"Failed to start {self.name} - {self.description}.", 3)
            return False
        self.main_pid, self.started = pid, time.time()
        self._enter("active", "running")
        self._log(f"Started {self.name} - {self.description}.")
        return True

    async def _stop(self) -> None:
        if self.runs:
            self._log(f"Stopping {self.name} - {self.description}...")
            self._enter("deactivating", "stop-sigterm")
            await self.process.terminate()
            self.main_pid = 0
            self._log(f"{self.name}: Deactivated successfully.")
            self._log(f"Stopped {self.name} - {self.description}.")
        self.result = "success"
        self._enter("inactive", "dead")

    def crashed(self, status: int, result: str = "exit-code") -> None:
        """Its process ended by itself: it comes back after RestartSec, as Restart=always says."""
        self._ended(status, result)
        if self.kind == "nginx":
            return
        self._enter("activating", "auto-restart")
        self.restarting = asyncio.get_running_loop().create_task(self._come_back())

    def _ended(self, status: int, result: str) -> None:
        self.main_pid = 0
        self.exit_status, self.result = status, result
        if result == "signal":
            self._log(f"{self.name}: Main process exited, code=killed, status={status}/KILL", 5)
        else:
            self._log(f"{self.name}: Main process exited, code=exited, status={status}/FAILURE", 5)
        self._log(f"{self.name}: Failed with result '{result}'.", 4)
        self._enter("failed", "failed")

    async def _come_back(self) -> None:
        await asyncio.sleep(RESTART_SECONDS)
        async with self.lock:
            self.restarting = None
            self.restarts += 1
            self._log(f"{self.name}: Scheduled restart job, restart counter is at {self.restarts}.")
            await self._start()

    def _forget_restart(self) -> None:
        if self.restarting is not None:
            self.restarting.cancel()
            self.restarting = None
            self._enter("inactive", "dead")

    def age(self, seconds: float) -> None:
        """Make it look as if it had been running for so long."""
        then = time.time() - seconds
        self.active_since = self.changed = self.started = then

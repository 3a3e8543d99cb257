"""This machine, without ssh: programs started by a shell as sshd would start them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llamatop.errors import Unreachable
from llamatop.model.plan import Command

from .base import Completed
from .streams import (
    CHUNK_BYTES,
    OUTPUT_LIMIT_BYTES,
    Lines,
    Tail,
    command_bytes,
    complete,
    line_too_long,
    output_too_long,
)

HANG_UP_GRACE_SECONDS: Final = 1.0


class LocalMachine:
    """This machine: commands run as the person who runs llamatop, in their home directory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._channels: set[LocalChannel] = set()

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return self._name

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        """Run to the end; 127 where there is no such program, as a shell says."""
        channel = await self.open(command)
        return await complete(self._name, channel, command, stdin, timeout_seconds)

    async def open(self, command: Command) -> LocalChannel:
        """Start a program in a process group of its own; raises Unreachable where that fails."""
        script = b"exec " + command_bytes(self._name, command)
        home = Path.home()
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                script,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                cwd=home if home.is_dir() else "/",
            )
        except OSError as error:
            raise Unreachable(
                self._name, f"no program can be started on this machine: {error.strerror}"
            ) from error
        channel = LocalChannel(self._name, process, self._channels.discard)
        self._channels.add(channel)
        return channel

    def shell_argv(self) -> list[str]:
        """The person's own shell."""
        return [os.environ.get("SHELL") or "/bin/sh"]

    async def close(self) -> None:
        """End every program that was started here."""
        await asyncio.gather(*(channel.close() for channel in tuple(self._channels)))


class LocalChannel:
    """A program on this machine; `forget` is called once it is closed."""

    def __init__(
        self,
        node: str,
        process: asyncio.subprocess.Process,
        forget: Callable[[LocalChannel], object],
    ) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a channel needs all three pipes")
        self._node = node
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._forget = forget
        self._lines = Lines()
        self._tail = Tail()
        self._stderr = asyncio.create_task(self._read_stderr(process.stderr))

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(CHUNK_BYTES):
            self._tail.feed(data)

    async def write(self, data: bytes) -> None:
        """Send to standard input; raises Unreachable when the program has ended."""
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except OSError as error:
            raise Unreachable(
                self._node, "the program on this machine no longer reads its input"
            ) from error

    async def write_eof(self) -> None:
        """Close standard input."""
        self._stdin.close()

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        """The next line with its newline, b"" at the end; raises ProtocolFault past `limit`."""
        while (line := self._lines.take_line()) is None:
            if len(self._lines) > limit:
                raise line_too_long(self._node, limit)
            data = await self._stdout.read(CHUNK_BYTES)
            if not data:
                return self._lines.take_rest()
            self._lines.feed(data)
        if len(line) > limit:
            raise line_too_long(self._node, limit)
        return line

    async def wait(self) -> Completed:
        """Wait for the end; -1 where a signal ended it."""
        while data := await self._stdout.read(CHUNK_BYTES):
            self._lines.feed(data)
            if len(self._lines) > OUTPUT_LIMIT_BYTES:
                raise output_too_long(self._node)
        await asyncio.shield(self._stderr)
        status = await self._process.wait()
        return Completed(max(status, -1), self._lines.take_rest(), self._tail.bytes())

    async def close(self) -> None:
        """Close its input, hang up, and kill its process group where that is not enough."""
        self._stdin.close()
        try:
            for number in (signal.SIGHUP, signal.SIGKILL):
                self._signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HANG_UP_GRACE_SECONDS):
                        await self._process.wait()
        finally:
            self._signal(signal.SIGKILL)
            self._stderr.cancel()
            # asyncio closes a pipe by itself only once it has been read to its end.
            self._process._transport.close()  # type: ignore[attr-defined]  # not public
            self._forget(self)
        await asyncio.sleep(0)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

"""What every way to a machine offers: run one command, or keep one program running."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from llamatop.model.plan import Command


class Completed(Struct, frozen=True):
    """A remote command that ended; `status` is its exit status, or -1 where a signal ended it."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A program running on the machine, its standard streams as bytes."""

    async def write(self, data: bytes) -> None:
        """Send to standard input; raises Unreachable when the connection is gone."""

    async def write_eof(self) -> None:
        """Close standard input."""

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        """The next line with its newline, b"" at the end; ProtocolFault past `limit` bytes."""

    async def wait(self) -> Completed:
        """Wait for the end; `stdout` holds only what was not read, `stderr` its last 64 KiB."""

    async def close(self) -> None:
        """End the program's connection; it sees end of file and hang-up."""


class Machine(Protocol):
    """One machine of the cluster, connected on first use and connected again when cut.

    Every method raises Unreachable (or HostKeyFault) naming the node and the mend.
    """

    @property
    def name(self) -> str:
        """The node's name in the cluster."""

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        """Run to the end; a non-zero status is an answer, not an error."""

    async def open(self, command: Command) -> Channel:
        """Start a program and talk to it."""

    def shell_argv(self) -> list[str]:
        """The local command that gives the person a shell there, as argv for `!`."""

    async def close(self) -> None:
        """Close the connection; safe to call twice."""

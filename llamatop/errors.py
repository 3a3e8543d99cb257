"""The exceptions that llamatop raises on purpose.

LlamatopError              one clear sentence: the thing, the place, the mend
├── UsageError             wrong words on the command line                 exit 2
│   └── ConfigError        a cluster file with problems (carries them all) exit 2
├── NodeError              something about one node; names it
│   ├── Unreachable        no connection: resolve, refuse, time out, cut   exit 3
│   │   ├── HostKeyFault   unknown or changed key; carries the mend        exit 3
│   │   └── NoAnswer       nothing comes back: refused, no route, cut      exit 3
│   ├── ProtocolFault      it answered with something else
│   └── RemoteFailed       a command there ended with a non-zero status
├── NginxSyntaxError       an nginx file that does not parse; names file and line
├── Refused                a guard said no; says what overrides it         exit 4
├── PlanFailed             a step failed; what was done and undone         exit 1
└── Declined               the question was answered no, or not at all     exit 5
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class LlamatopError(Exception):
    """Anything llamatop raises on purpose; its text is one sentence for the person."""

    exit_code = 1


class UsageError(LlamatopError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class Problem(Struct, frozen=True):
    """One thing wrong in a cluster file; `line` counts from 1, None where it is unknown."""

    file: str
    line: int | None
    key: str
    text: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        hint = f" (did you mean {self.nearest!r}?)" if self.nearest else ""
        subject = f"{self.key}: " if self.key else ""
        return f"{place}: {subject}{self.text}{hint}"


class ConfigError(UsageError):
    """A cluster file that cannot be used; `problems` holds all of them, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NodeError(LlamatopError):
    """A fault of one node; `node` is its name in the cluster."""

    def __init__(self, node: str, text: str, mend: str | None = None) -> None:
        self.node = node
        self.text = text
        self.mend = mend
        super().__init__(f"{node}: {text}" + (f"; {mend}" if mend else ""))


class Unreachable(NodeError):
    """No connection to the node: it does not resolve, refuses, times out or was cut."""

    exit_code = 3


class HostKeyFault(Unreachable):
    """The node's host key is unknown or has changed; `mend` is the command that settles it."""


class NoAnswer(Unreachable):
    """Nothing comes back: refused, no route, no answer in time, or the connection was cut.

    Such a machine may be down; one that cannot be read for any other cause most likely is not.
    """


class ProtocolFault(NodeError):
    """The node answered with something that is not the protocol expected of it."""


class RemoteFailed(NodeError):
    """A command on the node ended with a non-zero status."""

    def __init__(self, node: str, command: str, status: int, stderr: str) -> None:
        self.command = command
        self.status = status
        self.stderr = stderr
        last = stderr.strip().splitlines()[-1] if stderr.strip() else "no message"
        super().__init__(node, f"`{command}` ended with status {status}: {last}")


class NginxSyntaxError(LlamatopError):
    """An nginx file that does not parse; `line` counts from 1, `text` is nginx's own word."""

    def __init__(self, file: str, line: int, text: str) -> None:
        self.file = file
        self.line = line
        self.text = text
        super().__init__(f"{file}:{line}: {text}")


class Refused(LlamatopError):
    """A guard refused the change; the text says what overrides it."""

    exit_code = 4


class PlanFailed(LlamatopError):
    """A plan stopped at a step; the text says what was done and what was undone."""

    exit_code = 1


class Declined(LlamatopError):
    """The person said no, or nobody could be asked; nothing was done."""

    exit_code = 5

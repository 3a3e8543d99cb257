"""What will change and what changed: a plan, its steps and their results."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Literal

from msgspec import Struct

MOST_REASON = 120

Action = Literal[
    "start", "stop", "restart", "enable", "disable", "drain", "undrain", "roll", "undo", "recover",
    "split", "unsplit",
]  # fmt: skip
Verb = Literal["start", "stop", "restart", "enable", "disable", "daemon-reload"]
StepKind = Literal[
    "systemctl", "membership", "wait-drained", "wait-healthy", "unit-file", "record",
]  # fmt: skip
StepState = Literal["running", "done", "failed", "undone", "skipped"]


class Command(Struct, frozen=True):
    """One remote command as an argument vector; the only type a command leaves llamatop in."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.argv)


class MembershipEdit(Struct, frozen=True):
    """Server lines to mark down (or up) in one file on the balancer; `before` is its SHA-256.

    `lines` are (address, as it stood, as it is to stand), without the `;`. With `beside` it is
    about lines of their own for `addresses`, put in behind that address's (or, `down`, taken away).
    """

    file: str
    before: str
    upstream: str
    addresses: tuple[str, ...]
    down: bool
    lines: tuple[tuple[str, str, str], ...] = ()
    beside: str = ""


class FileChange(Struct, frozen=True):
    """One file on the balancer, whole, before and after; `target` is where symlinks lead."""

    path: str
    target: str
    before: bytes
    after: bytes


class UnitFile(Struct, frozen=True):
    """A unit's file to write where there is none; without `data` it is to be taken away again.

    `digest` is the SHA-256 of what llamatop wrote: another text is never taken away.
    """

    path: str
    data: bytes | None
    digest: str


class NewUnit(Struct, frozen=True):
    """A unit that is to run; `digest` is the SHA-256 of its file, empty where it was there."""

    unit: str
    digest: str = ""
    enabled: bool = False


class Reshaping(Struct, frozen=True):
    """Units of one node that take the place of others; `enabled` is how they were found."""

    node: str
    news: tuple[NewUnit, ...]
    olds: tuple[NewUnit, ...]


class Step(Struct, frozen=True):
    """One step: what it does in words, the exact commands, the exact diff, how long it may take.

    A "membership" step makes `edits`, which together turn each of `files` from before to after;
    `members` are the (upstream, address) that a step is about. A "systemctl" step does `verb` to
    `unit`. `batch` counts the groups of workers that go one after another from 1, 0 in a plan
    without any. A "unit-file" step writes or takes away `unit_file`. `back` are the steps that take
    this one back, in their order, where a plan is undone as a whole; see `unmaking`. A "record"
    step writes down that the plan with this id is over, on its node and on the balancer.
    """

    kind: StepKind
    node: str
    title: str
    commands: tuple[Command, ...] = ()
    diff: str = ""
    worker: str | None = None
    unit: str | None = None
    edits: tuple[MembershipEdit, ...] = ()
    files: tuple[FileChange, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    verb: Verb | None = None
    timeout_seconds: float = 60.0
    batch: int = 0
    unit_file: UnitFile | None = None
    back: tuple[Step, ...] = ()
    plan: str = ""


class Expectation(Struct, frozen=True):
    """How a plan found a unit and its server lines; it runs only while that holds.

    `active_state` and `main_pid` are None where they may change by themselves (a unit that flaps).
    `members` are (upstream, address, down).
    """

    name: str
    node: str
    unit: str
    active_state: str | None = None
    main_pid: int | None = None
    members: tuple[tuple[str, str, bool], ...] = ()

    def __str__(self) -> str:
        parts = [self.active_state] if self.active_state else []
        parts += [f"main process {self.main_pid}"] if self.main_pid else []
        for upstream, address, down in self.members:
            parts.append(f"{address} {'down' if down else 'up'} in {upstream}")
        return f"{self.name}: {', '.join(parts)}"


class Plan(Struct, frozen=True):
    """A list of steps; without steps it says in `nothing` why none is needed.

    `cuts_requests` counts the requests in flight that it will cut (None: unknown). `warnings` are
    sentences the person must see before confirming. `forced`: the guards were overridden. `expects`
    are its preconditions. `keep` members of each upstream stay in at any time. `about` is a
    sentence on what it is for, `reason` the operator's own words why, each or empty. `stays` says
    what such a plan is there to put right and cannot now, a sentence each: it fails of it.
    `automatic`: nobody asked for it; who is well again is put back without being asked too.
    `reshapings` are written down on their nodes before the first step.
    """

    action: Action
    targets: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    nothing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    cuts_requests: int | None = 0
    made_at: datetime | None = None
    forced: bool = False
    expects: tuple[Expectation, ...] = ()
    keep: int = 1
    about: str = ""
    reason: str = ""
    stays: tuple[str, ...] = ()
    automatic: bool = False
    reshapings: tuple[Reshaping, ...] = ()

    @property
    def title(self) -> str:
        """What it does to what."""
        return " ".join((self.action, *self.targets))

    @property
    def explained(self) -> str:
        """The same, with why where that was said."""
        return f"{self.title} ({self.reason})" if self.reason else self.title

    @property
    def batches(self) -> int:
        """How many groups of workers go one after another."""
        return max((step.batch for step in self.steps), default=0)

    def text(self) -> str:
        """The plan as plain text: the exact commands and diffs, as --dry-run and `y` give it."""
        lines = [f"{self.action} {' '.join(self.targets)}".rstrip()]
        lines += [f"  {self.about}"] if self.about else []
        lines += [f"  why: {self.reason}"] if self.reason else []
        lines += [f"  ! {warning}" for warning in self.warnings]
        lines += [f"  ! {sentence}" for sentence in self.stays]
        lines += [f"  = {reason}" for reason in self.nothing]
        if self.steps:
            lines += [f"  if {expectation}" for expectation in self.expects]
        for number, step in enumerate(self.steps, 1):
            lines.append(f"  {number}. {step.title}  [{step.node}]")
            lines += [f"       $ {command}" for command in step.commands]
            lines += [f"       {line}" for line in step.diff.splitlines()]
        return "\n".join(lines)


class StepResult(Struct, frozen=True):
    """How a step stands: sent while it runs (`progress` in words) and once when it ended.

    `members` are the (upstream, address) that an "undone" one put back.
    """

    step: Step
    number: int
    state: StepState
    seconds: float = 0.0
    progress: str = ""
    error: str | None = None
    members: tuple[tuple[str, str], ...] = ()

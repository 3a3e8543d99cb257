"""A unit's file written where there was none, and taken away again: fixed commands, read back."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import time
from collections.abc import Callable

from llamatop.errors import Unreachable
from llamatop.model.plan import Command, Step, UnitFile
from llamatop.transport.base import Machine

from . import systemd
from .failure import StepFailed
from .live import Fleet, ask
from .unit_copy import MADE

RETRY_SECONDS = 60.0
_RUNS = (b"=active\n", b"=activating\n", b"=reloading\n", b"=deactivating\n")


def beside(path: str) -> str:
    """Where a file is written before it gets its name: systemd passes over it."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, f".{name}.llamatop-new")


def writing(path: str) -> tuple[Command, ...]:
    """Write stdin beside `path`, then give it its own name.

    The second fails where the name exists: nobody's unit is ever overwritten.
    """
    root = ("-m", "0644", "-o", "root", "-g", "root")
    return (
        Command(("install", *root, "-T", "--", "/dev/stdin", beside(path))),
        Command(("ln", "-T", "--", beside(path), path)),
        Command(("rm", "-f", "--", beside(path))),
    )


def removing(path: str) -> tuple[Command, ...]:
    """Take the file away and what may lie beside it, and have systemd forget the unit."""
    return (
        Command(("rm", "-f", "--", path)),
        Command(("rm", "-f", "--", beside(path))),
        systemd.daemon_reload(),
        systemd.reset_failed(posixpath.basename(path)),
    )


def digest(data: bytes) -> str:
    """How a text is known again: its SHA-256."""
    return hashlib.sha256(data).hexdigest()


def ours(data: bytes, known: str) -> bool:
    """Whether a text is one that llamatop made, and as it made it."""
    return data.startswith(MADE.encode()) and digest(data) == known


def written(path: str, data: bytes) -> UnitFile:
    """A file to write."""
    return UnitFile(path, data, digest(data))


def removal(node: str, unit: str, path: str, known: str, sudo: tuple[str, ...]) -> Step:
    """The step that takes away what llamatop wrote, as long as its digest is `known`."""
    return Step(
        kind="unit-file",
        node=node,
        title=f"remove {path}",
        commands=tuple(Command((*sudo, *command.argv)) for command in removing(path)),
        unit=unit,
        unit_file=UnitFile(path, None, known),
    )


async def carry_out(
    machines: Fleet,
    step: Step,
    progress: Callable[[str], None],
    written: Callable[[Step], None],
) -> None:
    """Do a "unit-file" step; `written` is called once the file may be there.

    Raises StepFailed, or NodeError.
    """
    assert step.unit_file is not None
    machine = machines.machine(step.node)
    give_up = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            if step.unit_file.data is None:
                await _remove(machine, step)
            else:
                await _write(machine, step, written)
            break
        except Unreachable as error:
            written(step)
            if time.monotonic() > give_up:
                raise
            progress(f"connection lost ({error.text}); asking again")
            await asyncio.sleep(0.5)


async def _write(machine: Machine, step: Step, written: Callable[[Step], None]) -> None:
    assert step.unit_file is not None
    path, data = step.unit_file.path, step.unit_file.data
    assert data is not None
    there = await ask(machine, Command(("cat", "--", path)))
    if there.status == 0 and there.stdout == data:
        written(step)
        # A try before this one, cut off, may have left it.
        await _must(machine, step.commands[-1], step)
        return
    put, link, tidy = step.commands
    new = put.argv[-1]
    try:
        await _must(machine, put, step, data)
        held = await ask(machine, Command(("cat", "--", new)))
        if held.stdout != data:
            raise StepFailed(f"{new} does not hold what was written: is the disk full?")
        try:
            await _must(machine, link, step)
        except asyncio.CancelledError:
            # The node goes on with what it was told.
            written(step)
            raise
        written(step)
    finally:
        await _must(machine, tidy, step)


async def _remove(machine: Machine, step: Step) -> None:
    assert step.unit_file is not None
    path = step.unit_file.path
    there = await ask(machine, Command(("env", "LC_ALL=C", "cat", "--", path)))
    if there.status == 0 and not ours(there.stdout, step.unit_file.digest):
        raise StepFailed(f"{path} is not as llamatop wrote it, so it stays")
    if there.status != 0 and b"No such file" not in there.stderr:
        words = there.stderr.decode("utf-8", "replace").strip() or "no message"
        raise StepFailed(f"whether {path} is as llamatop wrote it is not known: {words}")
    shown = await ask(machine, systemd.standing(posixpath.basename(path)))
    if any(state in shown.stdout for state in _RUNS):
        raise StepFailed(f"{step.unit} runs, so its file {path} stays")
    *remove, forget = step.commands
    for command in remove:
        await _must(machine, command, step)
    # It fails where there is nothing to forget.
    await machine.run(forget)


async def _must(machine: Machine, command: Command, step: Step, data: bytes = b"") -> None:
    done = await machine.run(command, data, timeout_seconds=step.timeout_seconds)
    if done.status != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        words = said[-1] if said else "no message"
        if any(full in words for full in ("No space left", "quota exceeded")):
            words += f": free some there (`df -h {posixpath.dirname(command.argv[-1])}`)"
        raise StepFailed(f"`{command}` ended with status {done.status}: {words}")

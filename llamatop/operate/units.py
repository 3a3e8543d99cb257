"""One unit started, stopped, restarted, enabled or disabled, and read back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from llamatop.collect import journal
from llamatop.errors import LlamatopError, NodeError, Unreachable
from llamatop.model.observed import UnitState
from llamatop.model.plan import Command, Step
from llamatop.probe import unit_text

from . import systemd, waits
from .failure import StepFailed
from .live import Fleet, LiveSource
from .privilege import SUDO

READ_BACK_SECONDS = 30.0
SEEN_SECONDS = 60.0
POLKIT_ACTION = "org.freedesktop.systemd1.manage-units"
_JOURNAL_SECONDS = 5.0


async def change(
    source: LiveSource, machines: Fleet, step: Step, progress: Callable[[str], None]
) -> None:
    """Do the step's verb to its unit and read it back; raises StepFailed or NodeError."""
    verb = step.verb
    if verb is None or step.unit is None:
        raise StepFailed(f"{step.title}: the plan names no unit")
    before = waits.unit_of(source.latest, step)
    failure = await _command(source, machines, step, progress)
    sudo = step.commands[0].argv[:2] if step.commands[0].argv[:2] == SUDO else ()
    await _read_back(source, step, SEEN_SECONDS if before is None else 0.0)
    after = waits.unit_of(source.latest, step)
    if isinstance(failure, Unreachable) and before is not None and _untold(before, after):
        progress("the connection was cut before systemd was told: telling it again")
        failure = await _command(source, machines, step, progress)
        await _read_back(source, step)
        after = waits.unit_of(source.latest, step)
    if after is None:
        raise StepFailed(f"{step.unit} cannot be read back") from failure
    wrong = systemd.differs(verb, before or after, after) if before else None
    if failure is not None and (wrong or not isinstance(failure, Unreachable)):
        raise StepFailed(f"{failure}{await last_words(machines, step, sudo)}") from failure
    if wrong is not None:
        words = await last_words(machines, step, sudo)
        raise StepFailed(f"after {verb}, {step.unit} was read again: {wrong}{words}")


async def _command(
    source: LiveSource, machines: Fleet, step: Step, progress: Callable[[str], None]
) -> LlamatopError | None:
    """Run the step's commands, showing the unit's state meanwhile; what went wrong, if any."""
    machine = machines.machine(step.node)
    for command in step.commands:
        run = asyncio.create_task(machine.run(command, timeout_seconds=step.timeout_seconds))
        try:
            began = time.monotonic()
            while not (await asyncio.wait({run}, timeout=1.0))[0]:
                unit = waits.unit_of(source.latest, step)
                state = f"{unit.active_state}/{unit.sub_state}" if unit else "no answer"
                progress(f"{state}, {time.monotonic() - began:.0f} s")
            done = run.result()
        except LlamatopError as error:
            return error
        finally:
            # systemd goes on with what it was told: know that it was told, and how it ended.
            await to_the_end(run)
        if done.status != 0:
            return StepFailed(f"`{command}` ended with status {done.status}: {_said(done.stderr)}")
    return None


def _said(stderr: bytes) -> str:
    """What systemctl complained of, without where it says to look for more; and the mend."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    lines = [line for line in lines if not line.startswith("See ")]
    said = lines[-1] if lines else "no message"
    if "authentication required" in said or "Access denied" in said:
        said += f"; allow it with a polkit rule for {POLKIT_ACTION}, or use sudo"
    return said


async def _read_back(source: LiveSource, step: Step, patience: float = 0.0) -> None:
    """Read the node again; after a cut connection go on asking for half a minute.

    With `patience` go on for so long until the unit is seen: its file may have come just now.
    """
    began = time.monotonic()
    give_up = began + READ_BACK_SECONDS
    while True:
        try:
            await source.refresh(step.node)
            seen = waits.unit_of(source.latest, step) is not None
            if seen or time.monotonic() - began >= patience:
                return
            await asyncio.sleep(0.3)
        except NodeError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.5)


async def last_words(machines: Fleet, step: Step, sudo: tuple[str, ...] = ()) -> str:
    """The unit's own last words as half a sentence, or how its process ended and who may read more.

    `sudo` stands before what a user may run who is in none of the journal's groups.
    """
    if step.unit is None:
        return ""
    machine = machines.machine(step.node)
    with contextlib.suppress(LlamatopError):
        done = await machine.run(systemd.last_line(step.unit), timeout_seconds=_JOURNAL_SECONDS)
        text = done.stdout.decode("utf-8", "replace").strip()
        if done.status == 0 and text:
            return _words(text)
        if sudo:
            # Word for word what `llamatop sudoers` prints.
            last = Command((*sudo, *journal.permitted(step.unit)[0].argv))
            done = await machine.run(last, timeout_seconds=_JOURNAL_SECONDS)
            own = (
                journal.own_words(done.stdout.decode("utf-8", "replace")) if not done.status else ""
            )
            if own:
                return _words(own)
        done = await machine.run(systemd.ending(step.unit), timeout_seconds=_JOURNAL_SECONDS)
        shown = unit_text.blocks(done.stdout.decode("utf-8", "replace")).get(step.unit, {})
        status = shown.get("ExecMainStatus", "")
        if shown.get("ExecMainCode") in ("1", "2", "3"):
            how = "ended with status" if shown["ExecMainCode"] == "1" else "was ended by signal"
            return (
                f"; its process {how} {status}; to read its journal:"
                " sudo usermod -aG systemd-journal USER there"
            )
    return ""


def _words(text: str) -> str:
    return f"; its journal ends with: {text.splitlines()[-1]}"


def _untold(before: UnitState, after: UnitState | None) -> bool:
    """Whether a unit stands as it did, and is not about to change either."""
    same = after is not None and (after.active_state, after.sub_state, after.main_pid) == (
        before.active_state,
        before.sub_state,
        before.main_pid,
    )
    return same and before.active_state in ("active", "inactive", "failed")


async def to_the_end(task: asyncio.Task[Any]) -> None:
    """Wait until the task has ended, however often we are cancelled; raises nothing of its own."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()

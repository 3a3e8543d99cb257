"""A plan undone as a whole: each step taken back, the last one first."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from llamatop.errors import LlamatopError
from llamatop.model.plan import FileChange, MembershipEdit, Step, StepResult

from . import unit_files, units, waits
from .failure import StepFailed
from .files import BalancerFiles, Member, together
from .reach import reached
from .taking_back import TakingBack

ACTIONS = ("split", "unsplit")


@dataclass(eq=False, slots=True)
class Unmaking(TakingBack):
    """Remembers the steps that were begun; see `Rollback`, in whose place it stands.

    A plan over several workers is whole after each: only the one that it was at is taken back.
    What was in goes in again only once it serves. A unit made by the plan that still serves
    requests is left alone, and the story says so: nothing is cut. Where nothing of what was in
    serves again, the new ones stay in its place.
    """

    _begun: list[Step] = field(init=False, default_factory=list)
    _kept: set[tuple[str, str | None]] = field(init=False, default_factory=set)
    _ill: set[Member] = field(init=False, default_factory=set)

    def members_changed(self, step: Step, leaving: bool) -> None:
        """A membership step is done, or may be."""
        self._begun.append(step)

    def unit_begun(self, step: Step) -> None:
        """A unit or its file is about to be changed."""
        if step not in self._begun:
            self._begun.append(step)

    def unit_done(self, step: Step) -> None:
        """Nothing more to know."""

    async def run(self, say: Callable[[StepResult], None], failed: Step | None) -> None:
        """Take back what was begun; each result goes to `say`, the words into `story`."""
        for step in reversed([step for step in self._begun if step.batch == self.batch]):
            number = self._plan.steps.index(step) + 1
            began = time.monotonic()

            def progress(text: str, step: Step = step, number: int = number) -> None:
                say(StepResult(step, number, "running", 0.0, text))

            try:
                if step.kind == "membership":
                    members, text = await self._lines_back(step, progress)
                else:
                    members, text = (), await self._steps_back(step, progress)
            except LlamatopError as error:
                if step.kind == "membership" and _exchanges(step):
                    # Their lines are in, or may be: what is behind them is not stopped.
                    self._kept.update((new.node, new.unit) for new in self._news())
                self._lease.lost()
                text = f"NOT undone, {step.title}: {error}"
                self.story.append(text)
                say(StepResult(step, number, "failed", time.monotonic() - began, error=text))
                continue
            if text:
                self.story.append(f"undone: {text}")
                seconds = time.monotonic() - began
                say(StepResult(step, number, "undone", seconds, text, members=members))

    async def _steps_back(self, step: Step, progress: Callable[[str], None]) -> str:
        done = ""
        for back in step.back:
            if (back.node, back.unit) in self._kept:
                return ""
            try:
                await self._one_back(back, progress)
            except LlamatopError:
                if step.verb == "start":
                    # It runs, or may: its file is not taken from under it.
                    self._kept.add((back.node, back.unit))
                if step.verb == "stop":
                    self._ill.update(step.members)
                raise
            done = back.title if back.kind not in ("wait-drained", "wait-healthy") else done
        return done

    def _news(self) -> list[Step]:
        """The steps by which the plan starts what is new where it was at."""
        return [s for s in self._plan.steps if (s.verb, s.batch) == ("start", self.batch)]

    async def _one_back(self, back: Step, progress: Callable[[str], None]) -> None:
        if back.kind == "systemctl":
            await units.change(self._source, self._machines, back, progress)
        elif back.kind == "unit-file":
            await unit_files.carry_out(self._machines, back, progress, lambda step: None)
        elif back.kind == "wait-drained":
            await self._waited_for(
                waits.wait(
                    self._source, back, lambda snapshot: waits.drained(snapshot, back), progress
                )
            )
        else:
            await self._waited_for(self._healthy(back, progress))

    async def _healthy(self, back: Step, progress: Callable[[str], None]) -> None:
        await waits.wait(self._source, back, waits.Healthy(back), progress)
        balancer = self._source.latest.balancer_node
        addresses = [address for _, address in back.members]
        if balancer is not None and addresses:
            machine = self._machines.machine(balancer)
            await reached(machine, addresses, back.timeout_seconds, progress)

    async def _waited_for(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it; raises StepFailed where the person would no longer wait for its end."""
        if not await self._unless_hurried(work):
            raise StepFailed("it was not waited for")

    def _nothing_lost(self, step: Step) -> None:
        returning: dict[str, set[Member]] = {}
        for edit in step.edits:
            if edit.down and not edit.beside:
                members = {(edit.upstream, address) for address in edit.addresses}
                returning.setdefault(edit.upstream, set()).update(members)
        joined = {edit.upstream for edit in step.edits if not edit.down}
        lost = [returning[u] for u in joined.intersection(returning) if returning[u] <= self._ill]
        if lost:
            old = ", ".join(sorted({address for members in lost for _, address in members}))
            new = ", ".join(step.worker or step.unit or "" for step in self._news())
            raise StepFailed(
                f"{old} stays down: what is behind it does not serve, so {new} stay in its place,"
                " their lines and units as they are"
            )

    async def _lines_back(
        self, step: Step, progress: Callable[[str], None]
    ) -> tuple[tuple[Member, ...], str]:
        """The server lines as they were, in the files as they are now.

        Raises StepFailed where an upstream would have nothing of it that serves.
        """
        self._nothing_lost(step)
        sudo = await self._privileges.prefix(step.node)
        paths = {change.path: change for change in step.files}
        files = await BalancerFiles.read(self._machines, step.node, paths, sudo)
        edits: list[MembershipEdit] = []
        parts: list[tuple[FileChange, ...]] = []
        returning: list[Member] = []
        for path, change in paths.items():
            here = [edit for edit in step.edits if edit.file == change.target]
            own = [(e.upstream, e.beside, a) for e in here if e.beside for a in e.addresses]
            made, changed = files.remove({path: own})
            edits += made
            parts.append(changed)
            for down in (True, False):
                members = [
                    (edit.upstream, address)
                    for edit in here
                    if not edit.beside and edit.down is down
                    for address in edit.addresses
                    if files.down(path, (edit.upstream, address)) is down
                ]
                ill = self._ill.intersection(members)
                members = [member for member in members if member not in ill]
                if ill:
                    self._lease.lost()
                    names = ", ".join(sorted(address for _, address in ill))
                    self.story.append(f"{names} stays down: what is behind it does not serve")
                marked, changed, _ = files.change({path: members} if members else {}, not down)
                edits += marked
                parts.append(changed)
                returning += members if down else []
        changes, _ = together(*parts)
        if not changes:
            return (), ""
        await self._write(step, changes, edits, sudo, progress)
        await waits.look(self._source, [step.node])
        names = ", ".join(address for _, address in returning)
        return tuple(returning), f"{names} in again" if names else "its server lines are as before"


def _exchanges(step: Step) -> bool:
    """Whether it puts lines in and takes others out at once."""
    return len({edit.down for edit in step.edits}) > 1

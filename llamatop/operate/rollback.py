"""Putting members back in after a plan stopped half-way: only those that can serve."""

from __future__ import annotations

import time
from collections.abc import Callable

from llamatop.errors import LlamatopError
from llamatop.model.plan import Plan, Step, StepResult

from . import waits
from .audit import who
from .files import BalancerFiles, Member
from .live import Fleet, LiveSource
from .membership import transact
from .privilege import Privileges
from .reach import reached


class Rollback:
    """Remembers what a plan took out and stopped; puts back what may serve again.

    A member whose unit the plan stopped as meant stays out; one whose unit was touched and is
    not healthy stays out too, and the story says so.
    """

    def __init__(
        self, plan: Plan, source: LiveSource, machines: Fleet, privileges: Privileges
    ) -> None:
        self.story: list[str] = []
        self._plan = plan
        self._source = source
        self._machines = machines
        self._privileges = privileges
        self._out: dict[Member, tuple[int, Step]] = {}
        self._touched: dict[Member, Step] = {}
        self._stopped: set[Member] = set()

    def members_changed(self, step: Step, leaving: bool) -> None:
        """A membership step is done: its members left, or came back."""
        for member in step.members:
            if leaving:
                self._out[member] = (self._plan.steps.index(step) + 1, step)
            else:
                self._out.pop(member, None)

    def unit_begun(self, step: Step) -> None:
        """A unit is about to be changed: whatever it carries may no longer serve."""
        self._touched.update(dict.fromkeys(step.members, step))

    def unit_done(self, step: Step) -> None:
        """A unit was changed as meant."""
        if step.verb == "stop":
            self._stopped.update(step.members)

    async def run(self, say: Callable[[StepResult], None]) -> None:
        """Put back what can be put back; each result goes to `say`, the words into `story`."""
        candidates = {m: at for m, at in self._out.items() if m not in self._stopped}
        if not candidates:
            return
        touched = [self._touched[member] for member in candidates if member in self._touched]
        for step in touched:
            await waits.look(self._source, [step.node])
        by_step: dict[int, tuple[Step, list[Member]]] = {}
        for member, (number, step) in candidates.items():
            unfit = await self._unfit(member, step.node)
            if unfit is not None:
                name = self._touched[member].worker or member[1]
                self.story.append(f"{name} stays drained, {unfit}: undrain it later")
            else:
                by_step.setdefault(number, (step, []))[1].append(member)
        for number, (step, members) in reversed(by_step.items()):
            began = time.monotonic()
            names = ", ".join(address for _, address in members)
            error = await self._put_back(step, members)
            seconds = time.monotonic() - began
            if error is None:
                self.story.append(f"undone: {names} in again")
                say(StepResult(step, number, "undone", seconds, f"{names} in again"))
            else:
                text = f"NOT undone, {names} still down: {error}"
                self.story.append(text)
                say(StepResult(step, number, "failed", seconds, error=text))

    async def _put_back(self, step: Step, members: list[Member]) -> LlamatopError | None:
        """The same lines up again in the files as they are now; the error where that fails."""
        try:
            sudo = await self._privileges.prefix(step.node)
            paths = {change.path: change for change in step.files}
            files = await BalancerFiles.read(self._machines, step.node, paths, sudo)
            wanted: dict[str, list[Member]] = {}
            for path in paths:
                here = [member for member in members if files.down(path, member)]
                if here:
                    wanted[path] = here
            _, changes, _ = files.change(wanted, down=False)
            if changes:
                await transact(
                    self._machines.machine(step.node),
                    changes,
                    sudo=sudo,
                    unit=step.unit,
                    holder=f"{who()}: undo of {self._plan.action}",
                    progress=lambda text: None,
                )
        except LlamatopError as error:
            return error
        return None

    async def _unfit(self, member: Member, balancer: str) -> str | None:
        """Why a member must stay out: a unit was touched and does not serve; None where it may."""
        step = self._touched.get(member)
        if step is None:
            return None
        unit = waits.unit_of(self._source.latest, step)
        worker = waits.worker_of(self._source.latest, step)
        if unit is None or unit.active_state != "active":
            return "it is not healthy"
        if worker is not None and worker.sample.health not in waits.ANSWERS:
            return "it is not healthy"
        try:
            await reached(self._machines.machine(balancer), [member[1]], 0.0, lambda text: None)
        except LlamatopError as error:
            return str(error)
        return None

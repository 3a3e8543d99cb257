"""Putting members back in after a plan stopped half-way: those that serve, or soon will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from llamatop.errors import LlamatopError, Unreachable
from llamatop.model.plan import Step, StepResult

from . import waits
from .failure import StepFailed
from .files import BalancerFiles, Member
from .reach import reached
from .taking_back import TakingBack
from .targets import behind

GRACE_SECONDS = 2.0
ASKED_AT_ONCE = 8


@dataclass(eq=False, slots=True)
class Rollback(TakingBack):
    """Remembers what a plan took out and stopped; puts back what may serve again.

    A member whose unit the plan stopped as meant stays out. One whose unit was started again is
    waited for; where it does not get healthy it stays out, and the story says so.
    """

    _out: dict[Member, tuple[int, Step]] = field(init=False, default_factory=dict)
    _touched: dict[Member, Step] = field(init=False, default_factory=dict)
    _stopped: set[Member] = field(init=False, default_factory=set)
    _writing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

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

    async def run(self, say: Callable[[StepResult], None], failed: Step | None) -> None:
        """Put back what can be put back; each result goes to `say`, the words into `story`.

        The unit of the step that failed is not waited for.
        """
        candidates = {m: at for m, at in self._out.items() if m not in self._stopped}
        untouched = [m for m in candidates if m not in self._touched]
        well = [m for m in untouched if self._well(m)]
        doubtful = {m: candidates[m] for m in untouched if m not in well}
        # Nobody waits for those that can serve now, and those that may wait for none another.
        await self._return({m: candidates[m] for m in self._running(well)}, say)
        units: dict[tuple[str, str | None], dict[Member, tuple[int, Step]]] = {}
        for member, at in candidates.items():
            if member in self._touched:
                step = self._touched[member]
                units.setdefault((step.node, step.unit), {})[member] = at
        hopeless = (failed.node, failed.unit) if failed is not None else None
        works = [
            self._return_healthy(members, unit == hopeless, say) for unit, members in units.items()
        ]
        if doubtful:
            works.append(self._return_reached(doubtful, say))
        for fault in await asyncio.gather(*works, return_exceptions=True):
            if fault is not None:
                raise fault

    def _running(self, members: list[Member]) -> list[Member]:
        """These without what somebody else has stopped, which the story names."""
        owners = behind(self._source.latest)
        found = []
        for member in members:
            owner = owners.get(member)
            if owner is not None and owner.unit.active_state in ("inactive", "failed"):
                state = owner.unit.active_state
                self.story.append(f"{owner.name} stays drained, it is {state}: undrain it later")
            else:
                found.append(member)
        return found

    async def _look_at(self, members: list[Member]) -> None:
        """Read their nodes, and the balancer: a connection that was cut may be back."""
        owners = behind(self._source.latest)
        nodes = {owners[m].node for m in members if m in owners}
        nodes |= {self._out[m][1].node for m in members}
        await waits.look(self._source, sorted(nodes))

    def _well(self, member: Member) -> bool:
        """Whether the member's worker answers now, or nobody could be asked whether it does."""
        snapshot = self._source.latest
        balancer = snapshot.balancer_node
        if balancer is None or not snapshot.node(balancer).reachable:
            return True
        owner = behind(snapshot).get(member)
        if owner is None or owner.worker is None:
            return False
        node = snapshot.node(owner.node)
        return node.reachable and not node.stale and owner.worker.sample.health in waits.ANSWERS

    async def _return_reached(
        self, members: dict[Member, tuple[int, Step]], say: Callable[[StepResult], None]
    ) -> None:
        """Put back what may have died, where the balancer gets an answer from it; ask all at once.

        Those without an answer when the person will no longer wait stay out.
        """
        faults: dict[Member, str | None] = {}
        limit = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(member: Member) -> None:
            async with limit:
                faults[member] = await self._unreached(member, members[member][1].node)

        async def ask_all(running: list[Member]) -> None:
            await asyncio.gather(*(ask(member) for member in running))

        await self._unless_hurried(self._look_at(list(members)))
        running = self._running(list(members))
        await self._unless_hurried(ask_all(running))
        owners = behind(self._source.latest)
        for member in running:
            fault = faults.get(member, "it did not answer yet")
            if fault is not None:
                name = owners[member].name if member in owners else member[1]
                self.story.append(f"{name} stays drained, {fault}: undrain it later")
        back = {m: members[m] for m in running if faults.get(m, "") is None}
        await self._return(back, say)

    async def _unreached(self, member: Member, balancer: str) -> str | None:
        """Why the balancer gets no answer from a member, None where it does."""
        if self._well(member):
            return None
        try:
            machine = self._machines.machine(balancer)
            await reached(machine, [member[1]], GRACE_SECONDS, lambda text: None)
        except LlamatopError as error:
            return str(error)
        return None

    async def _return_healthy(
        self,
        members: dict[Member, tuple[int, Step]],
        hopeless: bool,
        say: Callable[[StepResult], None],
    ) -> None:
        """Put back the members of one unit that the plan touched, once it serves."""
        step = self._touched[next(iter(members))]
        number, leaving = next(iter(members.values()))
        began = time.monotonic()

        def progress(text: str) -> None:
            say(StepResult(leaving, number, "running", time.monotonic() - began, text))

        unfit = await self._unfit(list(members), step, leaving.node, hopeless, progress)
        if unfit is not None:
            name = step.worker or ", ".join(address for _, address in members)
            self.story.append(f"{name} stays drained, {unfit}: undrain it later")
        else:
            await self._return(members, say)

    async def _return(
        self, members: dict[Member, tuple[int, Step]], say: Callable[[StepResult], None]
    ) -> None:
        """Put these back in, one transaction for each step that took some out."""
        by_step: dict[int, tuple[Step, list[Member]]] = {}
        for member, (number, step) in members.items():
            by_step.setdefault(number, (step, []))[1].append(member)
        for number, (step, back) in reversed(by_step.items()):
            began = time.monotonic()
            names = ", ".join(address for _, address in back)
            # Of two at once the second would only wait on the balancer, for as long as it may.
            async with self._writing:
                error = await self._put_back(step, back)
            seconds = time.monotonic() - began
            if error is None:
                text = f"{names} in again"
                self.story.append(f"undone: {text}")
                say(StepResult(step, number, "undone", seconds, text, members=tuple(back)))
            else:
                text = f"NOT undone, {names} still down: {error}"
                if isinstance(error, Unreachable):
                    text += f"; once {step.node} answers, `llamatop recover` puts it back"
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
            edits, changes, _ = files.change(wanted, down=False)
            if changes:
                await self._write(step, changes, edits, sudo, lambda text: None)
        except LlamatopError as error:
            return error
        return None

    async def _unfit(
        self,
        members: list[Member],
        step: Step,
        balancer: str,
        hopeless: bool,
        progress: Callable[[str], None],
    ) -> str | None:
        """Why members must stay out: their unit was touched and does not serve; None if it does."""
        patience = GRACE_SECONDS if hopeless else self._patience(step)
        waiting = replace(step, kind="wait-healthy", timeout_seconds=patience)

        async def serve() -> None:
            try:
                await waits.wait(self._source, waiting, waits.Healthy(waiting), progress)
            except StepFailed as error:
                raise StepFailed(f"it is not healthy ({error})") from error
            machine = self._machines.machine(balancer)
            await reached(machine, [address for _, address in members], patience, progress)

        try:
            if not await self._unless_hurried(serve()):
                return "it is not healthy yet"
        except LlamatopError as error:
            return str(error)
        return None

    def _patience(self, step: Step) -> float:
        """As long as the plan itself would have waited for the unit to get healthy."""
        waits_for = (
            one.timeout_seconds
            for one in self._plan.steps
            if one.kind == "wait-healthy" and (one.node, one.unit) == (step.node, step.unit)
        )
        return max(GRACE_SECONDS, next(waits_for, 0.0))

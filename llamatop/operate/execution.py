"""One plan on its way: step after step, each read back, everything put back on a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from uuid import uuid4

from llamatop.errors import LlamatopError, PlanFailed, Refused, Unreachable
from llamatop.model.plan import Plan, Step, StepResult, StepState

from . import guards, unit_files, units, waits
from .audit import who
from .control import Control
from .failure import StepFailed
from .files import Member
from .leases import Lease
from .live import Fleet, LiveSource
from .membership import note, transact
from .privilege import Privileges
from .reach import reached
from .rollback import Rollback
from .standing import Standing
from .units import to_the_end
from .unmaking import ACTIONS, Unmaking

JUST_NOW_SECONDS = 0.3


class Execution:
    """Runs a plan in a task of its own, so that a reader who leaves cannot leave it half done."""

    def __init__(
        self,
        plan: Plan,
        source: LiveSource,
        machines: Fleet,
        privileges: Privileges,
        control: Control | None = None,
        identity: str | None = None,
    ) -> None:
        self.plan = plan
        self.undone: tuple[str, ...] = ()
        self._source = source
        self._machines = machines
        self._privileges = privileges
        self._control = control or Control()
        self._results: asyncio.Queue[StepResult | None] = asyncio.Queue()
        self._standing = Standing(plan)
        self._holder = f"{who()}: {plan.explained}"
        balancer = source.latest.balancer_node
        self._lease = Lease(plan, machines, balancer, identity or uuid4().hex, self._holder)
        undo = Unmaking if plan.action in ACTIONS else Rollback
        self._rollback = undo(plan, source, machines, privileges, self._control, self._lease)
        self._finished: list[str] = []

    async def run(self) -> AsyncGenerator[StepResult, None]:
        """Every result as it comes; raises PlanFailed, or CancelledError once all is put back."""
        work = asyncio.create_task(self._work())
        stop: asyncio.CancelledError | None = None
        try:
            while True:
                try:
                    result = await self._results.get()
                except asyncio.CancelledError as cancelled:
                    stop = stop or cancelled
                    work.cancel()
                    continue
                if result is None:
                    break
                yield result
        except GeneratorExit:
            work.cancel()
            await to_the_end(work)
            raise
        if stop is not None:
            await to_the_end(work)
            if work.cancelled():
                raise stop
        await work

    async def _work(self) -> None:
        batch = 0
        try:
            await self._still_so()
            async with self._lease:
                for number, step in enumerate(self.plan.steps, 1):
                    if batch and step.batch != batch and self._control.paused:
                        paused = StepResult(step, number, "running", 0.0, "paused")
                        self._results.put_nowait(paused)
                        await self._control.between()
                    self._rollback.batch = batch = step.batch
                    await self._step(number, step)
        finally:
            self._results.put_nowait(None)

    async def _still_so(self) -> None:
        """Raise PlanFailed, refused, where the cluster is no longer as the plan found it."""
        nodes = [expectation.node for expectation in self.plan.expects]
        nodes = list(dict.fromkeys([*nodes, *(step.node for step in self.plan.steps)]))
        nodes = guards.needed(self._source.latest, self.plan.action, nodes)
        try:
            await self._fresh(nodes)
        except Refused as error:
            raise _refused(f"{error}; nothing was done") from error
        if self._standing.wrong(self._source.latest):
            # The plan read the balancer's files; the figures may be of the tick before.
            await waits.look(self._source, nodes)
        wrong = self._standing.wrong(self._source.latest)
        if wrong:
            raise _refused(f"{'; '.join(wrong)}; nothing was done: make the plan again")

    async def _fresh(self, nodes: list[str]) -> None:
        try:
            guards.fresh(self._source.latest, nodes)
        except Refused:
            # A connection that was just cut may be back at once.
            await waits.look(self._source, nodes)
            guards.fresh(self._source.latest, nodes)

    async def _step(self, number: int, step: Step) -> None:
        began = time.monotonic()

        def say(state: StepState, progress: str = "", error: str | None = None) -> None:
            seconds = time.monotonic() - began
            self._results.put_nowait(StepResult(step, number, state, seconds, progress, error))

        say("running")
        try:
            last = await self._perform(step, lambda text: say("running", text))
        except asyncio.CancelledError:
            say("failed", error="interrupted")
            await self._put_back(None)
            raise
        except LlamatopError as error:
            say("failed", error=str(error))
            await self._put_back(step)
            failed = PlanFailed(self._story(step, error))
            if isinstance(error, Refused) or getattr(error, "step", "") == "lock":
                failed.exit_code = Refused.exit_code
            raise failed from error
        except BaseException as error:
            say("failed", error=f"{type(error).__name__}: {error}")
            await self._put_back(step)
            raise
        self._finished.append(step.title)
        say("done", last)

    async def _perform(self, step: Step, progress: Callable[[str], None]) -> str:
        """Do it; returns what there is to say of how it was done."""
        said = ""
        if step.kind == "membership":
            said = await self._membership(step, progress)
        elif step.kind == "systemctl":
            await self._unit_still_so(step)
            self._rollback.unit_begun(step)
            await units.change(self._source, self._machines, step, progress)
            self._rollback.unit_done(step)
        elif step.kind == "unit-file":
            await unit_files.carry_out(self._machines, step, progress, self._rollback.unit_begun)
        elif step.kind == "record":
            await self._record_ended(step)
        elif step.kind == "wait-drained":
            alone = self.plan.action == "drain"
            judge = waits.Drained(step) if alone else lambda snap: waits.drained(snap, step)
            return await waits.wait(self._source, step, judge, progress, self._control)
        else:
            try:
                await waits.wait(self._source, step, waits.Healthy(step), progress)
                await self._reached(step, progress)
            except StepFailed as error:
                sudo = await self._privileges.prefix(step.node)
                words = await units.last_words(self._machines, step, sudo)
                raise StepFailed(f"{step.unit}: {error}{words}") from error
        self._standing.done(step, self._source.latest)
        return said

    async def _record_ended(self, step: Step) -> None:
        nodes = [step.node]
        balancer = self._source.latest.balancer_node
        if balancer is not None and balancer != step.node:
            nodes.append(balancer)
        for node in nodes:
            machine = self._machines.machine(node)
            await note(machine, self._holder, {"plan": step.plan, "who": who()}, "ended")
        # Whoever looks next must not find it left over any more.
        await waits.look(self._source, nodes)

    async def _unit_still_so(self, step: Step) -> None:
        """Look once more before a unit is touched: somebody may have put its members in."""
        nodes = [step.node]
        if step.members and self._source.latest.balancer_node is not None:
            nodes.append(self._source.latest.balancer_node)
        await waits.look(self._source, self._older(dict.fromkeys(nodes)))
        wrong = self._standing.wrong_for(step, self._source.latest)
        if wrong:
            raise Refused("; ".join(wrong))
        self._stay_healthy()

    def _stay_healthy(self, among: Iterable[Member] = ()) -> None:
        """Stop before anything else is taken out where what this plan restarted flaps."""
        fallen = self._standing.fallen(self._source.latest, tuple(among))
        if fallen:
            raise StepFailed(f"{'; '.join(fallen)}: look at it first")

    def _older(self, nodes: Iterable[str]) -> list[str]:
        """Those that were not read just now, as at the end of a drain."""
        just_now = time.monotonic() - JUST_NOW_SECONDS
        read = {n.name: n.snapshot.received_at or 0.0 for n in self._source.latest.nodes}
        return [node for node in nodes if read.get(node, 0.0) < just_now]

    async def _reached(self, step: Step, progress: Callable[[str], None]) -> None:
        """Wait until the balancer gets an answer by the addresses that go back in after this."""
        balancer = self._source.latest.balancer_node
        later = self.plan.steps[self.plan.steps.index(step) :]
        returning = {m for s in later for m in s.members if s.kind == "membership"}
        addresses = [address for name, address in step.members if (name, address) in returning]
        if balancer is not None and addresses:
            machine = self._machines.machine(balancer)
            await reached(machine, addresses, step.timeout_seconds, progress)

    async def _membership(self, step: Step, progress: Callable[[str], None]) -> str:
        leaving = any(edit.down for edit in step.edits)

        async def one_stays() -> None:
            if leaving:
                await self._fresh([step.node])
                joined = {edit.upstream for edit in step.edits if not edit.down}
                leavers = {
                    (edit.upstream, address)
                    for edit in step.edits
                    for address in edit.addresses
                    if edit.down and edit.upstream not in joined
                }
                guards.one_stays(self._source.latest, leavers, self.plan.forced, self.plan.keep)

        async def look_again() -> None:
            await waits.look(self._source, [step.node])
            await one_stays()

        self._stay_healthy(() if leaving else step.members)
        await one_stays()
        change = asyncio.create_task(
            transact(
                self._machines.machine(step.node),
                step.files,
                sudo=await self._privileges.prefix(step.node),
                unit=step.unit,
                holder=self._holder,
                progress=progress,
                own=self._source.cluster.balancer,
                edits=step.edits,
                lease=self._lease,
                look_again=look_again,
            )
        )
        try:
            await asyncio.shield(change)
        except asyncio.CancelledError:
            # The program on the node goes on whatever happens here: know how it ended.
            await to_the_end(change)
            # What is done when there is nothing more to do is not taken back.
            if change.exception() is not None or step is not self.plan.steps[-1]:
                raise
        finally:
            error = change.exception()
            # A balancer that is lost on the way may have the change: what left must come back.
            moved = leaving or any(edit.beside for edit in step.edits)
            turned = any(file.before != file.after for file in step.files)
            if turned and (error is None or (moved and isinstance(error, Unreachable))):
                self._rollback.members_changed(step, leaving)
        after = self.plan.steps[self.plan.steps.index(step) + 1 :][:1]
        # A wait begins with a look of its own.
        if not after or after[0].kind != "wait-drained":
            await waits.look(self._source, [step.node])
        return change.result()

    async def _put_back(self, failed: Step | None) -> None:
        """Roll back in peace: a second cancel does not stop it."""
        work = self._rollback.run(self._results.put_nowait, failed)
        await to_the_end(asyncio.create_task(work))
        self.undone = tuple(self._rollback.story)

    def _story(self, step: Step, error: LlamatopError) -> str:
        parts = [f"{step.title}: {error}"]
        parts.append(f"done before: {', '.join(self._finished) or 'nothing'}")
        parts += self._rollback.story
        return "; ".join(parts)


def _refused(text: str) -> PlanFailed:
    failed = PlanFailed(text)
    failed.exit_code = Refused.exit_code
    return failed

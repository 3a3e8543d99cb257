"""The one plan: made, shown, confirmed, executed, cancelled; what the dialog draws."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Literal

from msgspec.structs import replace

from llamatop.errors import LlamatopError
from llamatop.model.plan import Action, Plan, StepResult
from llamatop.operate.control import Answer, Control
from llamatop.operate.operator import Operator
from llamatop.operate.pace import seconds_left

Stage = Literal[
    "planning",
    "refused",
    "nothing",
    "ready",
    "running",
    "cancelling",
    "done",
    "failed",
    "cancelled",
]
ACTIVE = ("running", "cancelling")


class PlanRun:
    """One plan from the key that asked for it to its result; `changed` is called at each move."""

    def __init__(
        self,
        operator: Operator,
        action: Action,
        targets: Sequence[str],
        changed: Callable[[], None],
    ) -> None:
        self.action: Action = action
        self.targets = tuple(targets)
        self.stage: Stage = "planning"
        self.plan: Plan | None = None
        self.error: str | None = None
        self.results: dict[int, StepResult] = {}
        self.now = False
        self.force = False
        self.at_once = 1
        self.reason = ""
        self.control = Control("ask")
        self._operator = operator
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """Whether something is being changed right now."""
        return self.stage in ACTIVE

    @property
    def name(self) -> str:
        """What was asked for."""
        return f"{self.action} {' '.join(self.targets)}".rstrip()

    @property
    def pausable(self) -> bool:
        """Whether it runs over several groups of workers, between which it can stand still."""
        return self.stage == "running" and self.plan is not None and self.plan.batches > 1

    def seconds_left(self) -> float | None:
        """How long the rest takes, None where that is not known or it does not run."""
        if not self.pausable or self.plan is None:
            return None
        return seconds_left(self.plan, self.results.values())

    def make(self, *, now: bool = False, force: bool = False, at_once: int = 1) -> None:
        """Ask for the plan; also again, with other answers to what it asks."""
        if self.active:
            return
        self.now, self.force, self.at_once = now, force, at_once
        self._start("planning", self._make())

    def execute(self) -> None:
        """Run the plan that was shown; does nothing unless one is ready."""
        if self.stage == "ready" and self.plan is not None:
            self._start("running", self._execute(self.plan))

    def say_why(self, reason: str) -> None:
        """The operator's own words for it, which the plan carries wherever it is told."""
        self.reason = reason
        if self.stage == "ready" and self.plan is not None:
            self.plan = replace(self.plan, reason=reason)
            self._changed()

    def cancel(self) -> None:
        """Stop what runs; what was done is rolled back as far as it can be."""
        if self._task is None or self._task.done():
            return
        if self.stage == "cancelling":
            self.control.hurry()
            return
        if self.stage == "running":
            self._move("cancelling")
        self._task.cancel()

    def pause(self) -> None:
        """Stand still before the next group of workers, or go on."""
        if self.pausable:
            (self.control.resume if self.control.paused else self.control.pause)()
            self._changed()

    def answer(self, answer: Answer) -> None:
        """What to do with a drain that takes too long."""
        if self.stage == "running":
            self.control.answer(answer)
            self._changed()

    async def ended(self) -> None:
        """Wait until nothing runs any more."""
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self._task)

    def text(self) -> str:
        """The plan as `--dry-run` prints it; empty until it is made."""
        return self.plan.text() if self.plan is not None else ""

    def _start(self, stage: Stage, work: Coroutine[None, None, None]) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._move(stage)
        self._task = asyncio.ensure_future(work)

    def _move(self, stage: Stage, error: str | None = None) -> None:
        self.stage, self.error = stage, error
        self._changed()

    async def _make(self) -> None:
        self.plan, self.results = None, {}
        try:
            plan = await self._operator.plan(
                self.action,
                self.targets,
                now=self.now,
                force=self.force,
                at_once=self.at_once,
            )
        except LlamatopError as error:
            self._move("refused", str(error))
            return
        if plan.stays and not plan.steps:
            self._move("refused", "; ".join(plan.stays))
            return
        self.plan = replace(plan, reason=self.reason)
        self._move("ready" if plan.steps else "nothing")

    async def _execute(self, plan: Plan) -> None:
        try:
            async for result in self._operator.execute(plan, self.control):
                self.results[result.number] = result
                self._changed()
        except asyncio.CancelledError:
            self._move("cancelled", "cancelled; what could be undone was undone")
            return
        except LlamatopError as error:
            self._move("failed", str(error))
            return
        self._move("done")

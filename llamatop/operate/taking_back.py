"""What every way of taking a plan back needs: whom to ask, a wait to cut short, the lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamatop.model.plan import FileChange, MembershipEdit, Plan, Step

from .audit import who
from .control import Control
from .leases import Lease
from .live import Fleet, LiveSource
from .membership import transact
from .privilege import Privileges


@dataclass(eq=False, slots=True)
class TakingBack:
    """The parts that `Rollback` and `Unmaking` share; `story` is what they did, in words.

    `batch` is the group of workers that the plan was at.
    """

    _plan: Plan
    _source: LiveSource
    _machines: Fleet
    _privileges: Privileges
    _control: Control
    _lease: Lease
    story: list[str] = field(init=False, default_factory=list)
    batch: int = field(init=False, default=0)

    async def _unless_hurried(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do it; False where the person would no longer wait for its end."""
        doing = asyncio.ensure_future(work)
        hurried = asyncio.ensure_future(self._control.hurried.wait())
        try:
            await asyncio.wait({doing, hurried}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                return False
            doing.result()
            return True
        finally:
            hurried.cancel()
            doing.cancel()
            await asyncio.wait({doing, hurried})

    async def _write(
        self,
        step: Step,
        changes: tuple[FileChange, ...],
        edits: Sequence[MembershipEdit],
        sudo: tuple[str, ...],
        progress: Callable[[str], None],
    ) -> None:
        """Change the balancer's files back in one transaction; raises as `transact` does."""
        await transact(
            self._machines.machine(step.node),
            changes,
            sudo=sudo,
            unit=step.unit,
            holder=f"{who()}: undo of {self._plan.action}",
            progress=progress,
            own=self._source.cluster.balancer,
            edits=edits,
            lease=self._lease,
        )

"""What the faces change a cluster through: a plan first, then its execution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from llamatop.model.plan import Action, Plan, StepResult

from .control import Control


class Operator(Protocol):
    """Makes plans from the latest snapshot and executes them; nothing else changes a node."""

    async def plan(
        self,
        action: Action,
        targets: Sequence[str],
        *,
        now: bool = False,
        force: bool = False,
        timeout_seconds: float | None = None,
        at_once: int = 1,
        keep: int = 1,
    ) -> Plan:
        """A plan for workers (`node/short`), other units (`node/UNIT`, tunnels and nginx) or globs.

        Without targets a roll is over all workers; an undo takes none. `at_once` workers at most
        are rolled together, while `keep` members of each upstream stay in.
        Raises Refused where a guard says no, NodeError where a needed file cannot be read, and
        UsageError where a target matches nothing.
        """

    def execute(self, plan: Plan, control: Control | None = None) -> AsyncIterator[StepResult]:
        """Run the steps in order, yielding each result as it changes; ends after the last.

        The first failure yields a "failed" result, then "undone" ones, and raises PlanFailed.
        Cancelling goes on yielding until what can be is put back, then raises CancelledError: a
        worker that is just being restarted is waited for and put back in.
        """

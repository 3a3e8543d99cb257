"""A plan's word, on the nodes, that it still holds what it took out or is about to put in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from llamatop.errors import LlamatopError, PlanFailed, Refused
from llamatop.model.plan import MembershipEdit, Plan
from llamatop.probe.drains import LEASE_SECONDS

from . import membership
from .files import Member
from .live import Fleet

RENEW_SECONDS = LEASE_SECONDS / 4
# A node that hangs keeps neither the others' lease nor the end of the plan.
SAY_SECONDS = 10.0


class Lease:
    """Held from `async with` to its end; whoever is killed meanwhile holds it half a minute longer.

    What a plan takes out is written into its user's record on the balancer before it is done, and
    so is that it came back, or that the plan ended. See `probe.drains` for what is read from it.
    Which units are to take the place of others is written down on their nodes before all else.
    """

    def __init__(
        self, plan: Plan, machines: Fleet, balancer: str | None, identity: str, holder: str
    ) -> None:
        self._machines = machines
        self._balancer = balancer
        self._holder = holder
        self._reshapings = plan.reshapings
        self._begun: list[str] = []
        self._out: set[Member] = set()
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        back = {m for step in plan.steps for m in _members(step.edits, down=False)}
        self._about: dict[str, object] = {
            "plan": identity,
            "who": holder.partition(":")[0],
            "what": plan.explained[:200],
            "returns": sorted(back),
            **({"auto": True} if plan.automatic else {}),
        }

    def note(self, edits: Sequence[MembershipEdit]) -> dict[str, object]:
        """What the record is to say of these edits, for the transaction that makes them."""
        out, back = _members(edits, down=True), _members(edits, down=False)
        # From here on the record may say so, however the transaction ends.
        self._out.update(out)
        kept = all(stood == stands for edit in edits for _, stood, stands in edit.lines)
        return {
            "about": self._about,
            "out": sorted(out),
            "in": sorted(back),
            **({"kept": True} if out and kept else {}),
        }

    def moved(self, edits: Sequence[MembershipEdit]) -> None:
        """These are made: what came back is held no longer."""
        self._out -= _members(edits, down=False)

    def lost(self) -> None:
        """What is out now was to come back and could not: whoever comes next has to know."""
        self._lost = True

    async def __aenter__(self) -> Self:
        """Begin to renew it; raises PlanFailed or NodeError, with nothing done."""
        try:
            for node in dict.fromkeys(one.node for one in self._reshapings):
                mine = [one for one in self._reshapings if one.node == node]
                # Where the answer is lost it may be written down all the same.
                self._begun.append(node)
                machine = self._machines.machine(node)
                await membership.reshape(machine, self._holder, self._about, mine)
        except membership.MembershipFailed as failure:
            await self._ended()
            failed = PlanFailed(f"{failure}; nothing was done")
            if failure.step == "lock":
                failed.exit_code = Refused.exit_code
            raise failed from failure
        except BaseException:
            await self._ended()
            raise
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say that the plan ended, where anything is still out or was written down."""
        await self._ended()

    async def _ended(self) -> None:
        ending = asyncio.create_task(self._end())
        while not ending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({ending})

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._say("renewed")

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if not self._lost:
            await self._say("ended")

    async def _say(self, event: str) -> None:
        """Best effort: where it fails, what is out is taken for left over once the lease is."""
        nodes = dict.fromkeys(self._begun)
        if self._out and self._balancer is not None:
            nodes[self._balancer] = None
        await asyncio.gather(*(self._say_on(node, event) for node in nodes))

    async def _say_on(self, node: str, event: str) -> None:
        with contextlib.suppress(LlamatopError, TimeoutError):
            machine = self._machines.machine(node)
            async with asyncio.timeout(SAY_SECONDS):
                await membership.note(machine, self._holder, self._about, event)


def _members(edits: Sequence[MembershipEdit], down: bool) -> set[Member]:
    marks = [edit for edit in edits if edit.down is down and not edit.beside]
    return {(edit.upstream, address) for edit in marks for address in edit.addresses}

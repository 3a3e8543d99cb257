"""What splits and unsplits that were cut off left on their nodes, as recover looks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llamatop.collect.leftovers import ago
from llamatop.errors import LlamatopError, NodeError, Refused
from llamatop.model.cluster import ClusterSnapshot

from . import membership, unit_facts
from .audit import who
from .cut_off import Found
from .live import Fleet
from .membership import CutOff, MembershipFailed
from .recovering import refusal
from .targets import Target
from .unit_facts import Made

_AT_ONCE = 8
_WAIT = "if it was cut off, llamatop recover puts it right half a minute after that"


async def cut_off(snapshot: ClusterSnapshot, machines: Fleet) -> Found:
    """What there is on the nodes that answer.

    One that cannot run the program is passed over: no split or unsplit was made there.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(node: str) -> tuple[list[CutOff], dict[tuple[str, str], Made]]:
        machine = machines.machine(node)
        files = {}
        async with gate:
            plans = await membership.reshapes(machine, f"{who()}: recover")
            over = [plan for plan in plans if plan.over and plan.own]
            for new in {n for c in over for one in c.reshapings for n in one.news if n.digest}:
                files[node, new.unit] = await unit_facts.made(machine, new.unit, new.digest)
        return plans, files

    nodes = [
        node.name
        for node in snapshot.cluster.nodes
        if node.ssh is not None and refusal(snapshot, node.name) is None
    ]
    found = Found()
    asked = await asyncio.gather(*(one(node) for node in nodes), return_exceptions=True)
    for node, got in zip(nodes, asked, strict=True):
        if isinstance(got, MembershipFailed) and got.step == "python3":
            continue
        if isinstance(got, LlamatopError):
            place = "" if isinstance(got, NodeError) else f"{node}: "
            found.faults.append(f"what was left there is not known: {place}{got}")
            found.silent.add(node)
            continue
        if isinstance(got, BaseException):
            raise got
        for plan in got[0]:
            begun = f"{plan.what} by {plan.who}, begun {ago(plan.minutes)},"
            if not plan.over:
                found.running.append(f"{begun} has not ended; {_WAIT}")
            elif plan.own:
                found.plans.append(plan)
            else:
                found.theirs.add(plan.plan)
                found.faults.append(f"{begun} was cut off and stays so: {plan.mend}")
        found.files |= got[1]
    return found


async def nobody_at_it(machines: Fleet, targets: Sequence[Target]) -> None:
    """Refuse where another split or unsplit of these is under way, or was cut off."""
    for node in dict.fromkeys(target.node for target in targets):
        mine = {target.unit.name for target in targets if target.node == node}
        for one in await membership.reshapes(machines.machine(node), f"{who()}: looks"):
            theirs = {u.unit for each in one.reshapings for u in (*each.news, *each.olds)}
            if not mine & theirs:
                continue
            begun = f"{one.what} by {one.who}, begun {ago(one.minutes)},"
            if one.over:
                raise Refused(f"{begun} was cut off: {one.mend}")
            raise Refused(f"{begun} has not ended; {_WAIT}")

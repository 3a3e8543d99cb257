"""What splits and unsplits that were cut off left on their nodes, as recover looks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llamatop.collect.leftovers import ago
from llamatop.errors import LlamatopError, NodeError, Refused
from llamatop.model.cluster import ClusterSnapshot

from . import membership, unit_facts
from .audit import who
from .live import Fleet
from .membership import CutOff
from .recovering import refusal
from .targets import Target
from .unit_facts import Made

_AT_ONCE = 8
_WAIT = "if it was cut off, llamatop recover puts it right half a minute after that"


async def cut_off(
    snapshot: ClusterSnapshot, machines: Fleet
) -> tuple[list[CutOff], dict[tuple[str, str], Made], list[str], list[str]]:
    """Those that are over without having said so, and the files of their units.

    Then, as sentences, what is in the way, and what may still be under way.

    A node that cannot run the program is passed over: no split or unsplit was made there.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(node: str) -> tuple[list[CutOff], dict[tuple[str, str], Made]]:
        machine = machines.machine(node)
        files = {}
        async with gate:
            plans = await membership.reshapes(machine, f"{who()}: recover")
            over = [plan for plan in plans if plan.over]
            for new in {n for c in over for one in c.reshapings for n in one.news if n.digest}:
                files[node, new.unit] = await unit_facts.made(machine, new.unit, new.digest)
        return plans, files

    nodes = [
        node.name
        for node in snapshot.cluster.nodes
        if node.ssh is not None and refusal(snapshot, node.name) is None
    ]
    plans: list[CutOff] = []
    files: dict[tuple[str, str], Made] = {}
    faults: list[str] = []
    running: list[str] = []
    for got in await asyncio.gather(*(one(node) for node in nodes), return_exceptions=True):
        if isinstance(got, NodeError):
            faults.append(f"what was left there is not known: {got}")
        if isinstance(got, LlamatopError):
            continue
        if isinstance(got, BaseException):
            raise got
        plans += [plan for plan in got[0] if plan.over]
        running += [
            f"{plan.what} by {plan.who}, begun {ago(plan.minutes)}, has not ended; {_WAIT}"
            for plan in got[0]
            if not plan.over
        ]
        files |= got[1]
    return plans, files, faults, running


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
                raise Refused(f"{begun} was cut off: llamatop recover first")
            raise Refused(f"{begun} has not ended; {_WAIT}")

"""What plans left behind put right: members still drained, a change that was killed half-way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from llamatop.collect.leftovers import Leftover, ago
from llamatop.model.plan import Command, Plan, Step

from . import reloading
from .files import Member
from .onnode import membership as onnode
from .planning import Draft
from .targets import Target, behind


def recover(
    draft: Draft, left: Sequence[Leftover], killed: Mapping[str, str], wanted: Collection[str]
) -> Plan:
    """The plan that repairs what was killed, then puts back what is left over of `wanted` workers.

    `killed` is what lies beside the balancer's files; see `membership.killed`. What does not run,
    or is not certain, stays out and is named.
    """
    if killed:
        _repair(draft, killed)
    owners = behind(draft.snapshot)
    targets: dict[str, Target] = {}
    members: list[Member] = []
    told = []
    for one in left:
        owner = owners.get(one.member)
        if owner is None:
            draft.nothing.append(
                f"{one.member[1]} of {one.member[0]} stays drained: it is not certain which worker"
                " it leads to; undrain it by hand"
            )
        elif owner.name not in wanted:
            continue
        elif not owner.active:
            draft.nothing.append(
                f"{owner.name} stays drained: it does not run ({owner.unit.active_state});"
                " start it, then undrain it"
            )
        else:
            targets[owner.name] = owner
            members.append(one.member)
            told.append(f"{owner.name} was drained by {one.who} {ago(one.minutes)} ({one.what})")
    found = list(targets.values())
    expects = draft.expectations(found)
    draft.put_in(found, members)
    if not draft.steps and not draft.nothing:
        draft.nothing.append("no plan left a member drained, and no change was killed half-way")
    return draft.finished(list(targets), expects, "; ".join(told))


def _repair(draft: Draft, killed: Mapping[str, str]) -> None:
    """The transaction that changes nothing, and so only repairs, tests and reloads."""
    balancer, node = draft.snapshot.balancer, draft.snapshot.balancer_node
    assert balancer is not None
    assert node is not None
    assert draft.files is not None
    own, prefix = draft.snapshot.cluster.balancer, draft.prefixes[node]
    commands = []
    for target, what in killed.items():
        verbs = ("back", "tidy") if what == "swapped" else ("tidy",)
        commands += [onnode.commands(target)[verb] for verb in verbs]
    draft.steps.append(
        Step(
            kind="membership",
            node=node,
            title=f"clear away what a killed change left beside {', '.join(killed)}",
            commands=(
                *(Command((*prefix, *argv)) for argv in commands),
                reloading.test(own, prefix),
                reloading.reload(own, balancer.unit, prefix),
            ),
            unit=balancer.unit,
            files=draft.files.unchanged(killed),
        )
    )

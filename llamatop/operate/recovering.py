"""What plans left behind put right: members still drained, a change that was killed half-way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from llamatop.collect.leftovers import Leftover, ago
from llamatop.errors import Refused
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Command, Plan, Step

from . import guards, reloading, waits
from .cut_off import Found, Repair, put_right
from .onnode import membership as onnode
from .planning import Draft
from .targets import Target, behind


def recover(
    draft: Draft,
    left: Sequence[Leftover],
    killed: Mapping[str, str],
    wanted: Collection[str],
    there: Found,
) -> Plan:
    """The plan that repairs what was killed, then puts back what is left over of `wanted` workers.

    `killed` is what lies beside the balancer's files; see `membership.killed`. `there` are
    splits and unsplits that were cut off. What does not run, or is not certain, stays out and is
    named in the plan's `stays`. Raises Refused where guards alone stand in the way of all of it.
    """
    if killed:
        _repair(draft, killed)
    repair = Repair()
    for one in there.plans:
        if killed:
            repair.stays.append(f"{one.what} was cut off too: recover again after this")
        else:
            put_right(draft, one, there.files, left, wanted, repair)
    apart = {one.plan for one in there.plans} | there.theirs
    plain = [one for one in left if one.plan not in apart]
    refused = _drained(draft, plain, wanted, there.silent, repair)
    found = list(repair.targets.values())
    judged = {target.name: target for target in (*repair.known, *found)}
    expects = draft.expectations(list(judged.values()))
    draft.put_in(found, repair.members, repair.started)
    for step in repair.after:
        draft.add(step)
    if refused and not draft.steps and not repair.stays:
        raise Refused("; ".join(refused))
    stays = [*repair.stays, *refused]
    if not draft.steps and not stays and not draft.nothing:
        draft.nothing.append("no plan left a member drained, and no change was killed half-way")
    plan = draft.finished(list(repair.targets), expects, "; ".join(repair.told))
    return replace(plan, stays=tuple(stays))


def _drained(
    draft: Draft,
    left: Sequence[Leftover],
    wanted: Collection[str],
    silent: Collection[str],
    repair: Repair,
) -> list[str]:
    """Who goes in again of what was left drained; returns what the guards refuse."""
    owners = behind(draft.snapshot)
    refused: list[str] = []
    for one in left:
        owner = owners.get(one.member)
        if owner is None:
            sentence = (
                f"{one.member[1]} of {one.member[0]} stays drained: it is not certain which worker"
                " it leads to; undrain it by hand"
            )
            may_be = _may_be(draft.snapshot, wanted)
            (repair.stays if may_be else draft.warnings).append(sentence)
        elif owner.name not in wanted:
            continue
        elif one.auto and (why := _unwell(draft.snapshot, owner)) is not None:
            # It is out because it is dead, which is no failure of this plan.
            sentence = f"{owner.name} {one.story}; it stays out: {why}"
            if sentence not in draft.nothing:
                draft.nothing.append(sentence)
        elif (why := refusal(draft.snapshot, owner.node)) is not None:
            refused.append(f"{owner.name} stays drained: {why}")
        elif not one.auto and owner.node in silent:
            # It may have been to leave for good.
            repair.stays.append(
                f"{owner.name} stays drained: whether {one.what} was cut off on {owner.node} is"
                " not known"
            )
        elif not owner.active:
            repair.stays.append(
                f"{owner.name} stays drained: it does not run ({owner.unit.active_state});"
                " start it, then undrain it"
            )
        else:
            repair.targets[owner.name] = owner
            repair.members.append(one.member)
            repair.told.append(
                f"{owner.name} {one.story}"
                if one.auto
                else f"{owner.name} was drained by {one.who} {ago(one.minutes)} ({one.what})"
            )
    return refused


def refusal(snapshot: ClusterSnapshot, node: str) -> str | None:
    """Why the guards let no worker of this node be put back now; None where they do."""
    try:
        guards.reachable_by_ssh(snapshot, [node])
        guards.fresh(snapshot, [node])
    except Refused as error:
        return str(error)
    return None


def _unwell(snapshot: ClusterSnapshot, owner: Target) -> str | None:
    """Why a worker that auto-drain took out does not serve yet; None where it does."""
    why = refusal(snapshot, owner.node)
    if why is not None or owner.worker is None:
        return why
    health = owner.worker.sample.health
    if owner.active and health in waits.ANSWERS:
        return None
    return owner.worker.fault or f"it is {health or owner.unit.active_state or 'not known'}"


def _may_be(snapshot: ClusterSnapshot, wanted: Collection[str]) -> bool:
    """Whether a server line that leads to nobody known may be one of these workers'."""
    others = [worker.name for worker in snapshot.workers if worker.name not in wanted]
    return not others or any(
        worker.membership is None for worker in snapshot.workers if worker.name in wanted
    )


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

"""What plans left behind put right: members still drained, a change that was killed half-way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from llamatop.collect.leftovers import Leftover, ago
from llamatop.errors import Refused
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Command, Plan, Step

from . import guards, reloading
from .files import Member
from .onnode import membership as onnode
from .planning import Draft
from .targets import Target, behind
from .unmaking import ACTIONS


def recover(
    draft: Draft,
    left: Sequence[Leftover],
    killed: Mapping[str, str],
    wanted: Collection[str],
    made: Collection[tuple[str, str]] = (),
) -> Plan:
    """The plan that repairs what was killed, then puts back what is left over of `wanted` workers.

    `killed` is what lies beside the balancer's files; see `membership.killed`. `made` are the units
    that llamatop wrote, as (node, unit): no others of `in_place` are stopped. What does not run,
    or is not certain, stays out and is named in the plan's `stays`. Raises Refused where
    guards alone stand in the way of all of it.
    """
    if killed:
        _repair(draft, killed)
    owners = behind(draft.snapshot)
    targets: dict[str, Target] = {}
    members: list[Member] = []
    told = []
    started: list[str] = []
    stopped: list[str] = []
    stays: list[str] = []
    refused: list[str] = []
    for one in left:
        owner = owners.get(one.member)
        if owner is None:
            sentence = (
                f"{one.member[1]} of {one.member[0]} stays drained: it is not certain which worker"
                " it leads to; undrain it by hand"
            )
            (stays if _may_be(draft.snapshot, wanted) else draft.warnings).append(sentence)
        elif owner.name not in wanted:
            continue
        elif one.auto and (why := _unwell(draft.snapshot, owner)) is not None:
            # It is out because it is dead, which is no failure of this plan.
            sentence = f"{owner.name} {one.story}; it stays out: {why}"
            if sentence not in draft.nothing:
                draft.nothing.append(sentence)
        elif (why := refusal(draft.snapshot, owner.node)) is not None:
            refused.append(f"{owner.name} stays drained: {why}")
        elif not owner.active and one.what.partition(" ")[0] in ACTIONS:
            others = in_place(draft.snapshot, owner)
            if any(other.worker and other.worker.membership == "in" for other in others):
                # The new ones serve: the plan was all but at its end.
                names = ", ".join(other.name for other in others)
                draft.warn(f"{owner.name} stays drained: {names} serve in its place ({one.what})")
                continue
            theirs = [other for other in others if not _left_over(other, made)]
            if theirs:
                names = ", ".join(other.name for other in theirs)
                stays.append(
                    f"{owner.name} stays drained: {names} runs on its cards and is not surely what"
                    f" {one.what} had begun, so it is not touched; stop it where it is not wanted,"
                    " then recover"
                )
                continue
            if owner.name not in started:
                _start_again(draft, owner, [other for other in others if other.name not in stopped])
                stopped += [other.name for other in others]
                started.append(owner.name)
            targets[owner.name] = owner
            members.append(one.member)
            told.append(f"{owner.name} was stopped by {one.who} {ago(one.minutes)} ({one.what})")
        elif not owner.active:
            stays.append(
                f"{owner.name} stays drained: it does not run ({owner.unit.active_state});"
                " start it, then undrain it"
            )
        else:
            targets[owner.name] = owner
            members.append(one.member)
            told.append(
                f"{owner.name} {one.story}"
                if one.auto
                else f"{owner.name} was drained by {one.who} {ago(one.minutes)} ({one.what})"
            )
    found = list(targets.values())
    expects = draft.expectations(found)
    draft.put_in(found, members, started)
    if refused and not draft.steps and not stays:
        raise Refused("; ".join(refused))
    stays += refused
    if not draft.steps and not stays and not draft.nothing:
        draft.nothing.append("no plan left a member drained, and no change was killed half-way")
    plan = draft.finished(list(targets), expects, "; ".join(told))
    return replace(plan, stays=tuple(stays))


def in_place(snapshot: ClusterSnapshot, owner: Target) -> list[Target]:
    """The workers that run on the cards of one that was stopped."""
    cards = set((owner.worker.gpus if owner.worker else None) or ())
    return [
        Target(worker.name, worker.node, worker.unit, worker)
        for worker in snapshot.workers
        if worker.node == owner.node
        and worker.name != owner.name
        and worker.unit.active_state not in ("inactive", "failed")
        and cards.intersection(worker.gpus or ())
    ]


def _left_over(other: Target, made: Collection[tuple[str, str]]) -> bool:
    """Whether it is a plan's own that no upstream sends anything to."""
    membership = other.worker.membership if other.worker else None
    return (other.node, other.unit.name) in made and membership in ("absent", "down")


def _start_again(draft: Draft, owner: Target, others: Sequence[Target]) -> None:
    """The one that a split or unsplit stopped, in the place of what it had begun to run."""
    for other in others:
        draft.count_cuts(other)
        draft.systemctl("stop", other)
        draft.systemctl("disable", other)
        path = other.unit.fragment_path
        draft.warn(
            f"{other.name} does not serve and is stopped; `rm {path}` where it is not wanted"
        )
    draft.systemctl("start", owner)
    if owner.unit.unit_file_state == "disabled":
        draft.systemctl("enable", owner)


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
    if owner.active and health in ("ok", "busy"):
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

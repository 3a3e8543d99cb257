"""The last membership change taken back, as far as the cluster is still as that plan left it."""

from __future__ import annotations

from llamatop.model.plan import Plan

from .files import Member
from .history import Change
from .planning import Draft
from .targets import Target, behind


def undo(draft: Draft, change: Change) -> Plan:
    """The plan that marks up what the change marked down and the other way round.

    What another hand changed since is named and left as it is. Raises Refused where a guard says
    no.
    """
    owners = behind(draft.snapshot)
    draft.texts = change.texts
    still: dict[bool, list[Member]] = {True: [], False: []}
    for member, down in change.members.items():
        name = owners[member].name if member in owners else f"{member[1]} of {member[0]}"
        now = draft.state(member)
        if now is None:
            draft.nothing.append(f"{name} is in no upstream any more")
        elif (now == "in") is down:
            moved = "put back in" if down else "taken out"
            draft.nothing.append(f"{name} was {moved} by another hand since")
        else:
            still[down].append(member)
    workers = {down: _workers(members, owners) for down, members in still.items()}
    for member in (m for members in still.values() for m in members if m not in owners):
        draft.warn(f"no worker is known behind {member[1]}: whether it serves is not waited for")
    targets = workers[True] + [one for one in workers[False] if one not in workers[True]]
    expects = draft.expectations(targets)
    if still[True]:
        draft.put_in(workers[True], still[True])
    if still[False]:
        draft.stays(still[False])
        draft.take_out(workers[False], still[False])
        rest = [member for member in still[False] if member not in owners]
        if rest:
            addresses = ", ".join(address for _, address in rest)
            draft.membership(rest, down=True, title=f"drain {addresses}")
    names = [target.name for target in targets] or [address for _, address in change.members]
    about = f"takes back: {change.title}, by {change.who} at {change.at}"
    return draft.finished(names, expects, about)


def _workers(members: list[Member], owners: dict[Member, Target]) -> list[Target]:
    found = (owners[member] for member in members if member in owners)
    return list({target.name: target for target in found}.values())

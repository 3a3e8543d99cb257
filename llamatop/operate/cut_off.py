"""A split or unsplit that was cut off: on to what was meant where that serves, else back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct, field

from llamatop.collect.leftovers import Leftover, ago
from llamatop.collect.names import SUFFIX
from llamatop.model.plan import NewUnit, Reshaping, Step

from .files import Member
from .impact import members_of
from .membership import CutOff
from .planning import Draft
from .reshape_steps import ENABLED
from .targets import Target
from .unit_facts import UNITS, Made
from .unit_files import removal
from .waits import ANSWERS


class Found(Struct):
    """Splits and unsplits that are over without having said so, and the files of their units.

    `theirs` are the plans of those that other users wrote down, `silent` the nodes of which it is
    not known. As sentences, `faults` is what is in the way, `running` what may still be under way.
    """

    plans: list[CutOff] = field(default_factory=list)
    files: dict[tuple[str, str], Made] = field(default_factory=dict)
    theirs: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


class Repair(Struct):
    """What a recover has found so far: who goes in again, what comes after that, what stays.

    `known` are the units that it goes by, as they are now.
    """

    targets: dict[str, Target] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)
    known: list[Target] = field(default_factory=list)


def put_right(
    draft: Draft,
    cut: CutOff,
    made: Mapping[tuple[str, str], Made],
    left: Sequence[Leftover],
    wanted: Collection[str],
    repair: Repair,
) -> None:
    """Add the steps for one; nothing that serves, or may, is stopped.

    `made` says of the units' files, by node and unit, whether they are as llamatop wrote them.
    """
    units = [unit for one in cut.reshapings for unit in (*one.news, *one.olds)]
    known = [target for unit in units if (target := _target(draft, cut.node, unit))]
    if known and not any(target.name in wanted for target in known):
        return
    repair.known += known
    out = [one.member for one in left if one.plan == cut.plan]
    whole = [_one(draft, cut, one, made, out, repair) for one in cut.reshapings]
    if all(whole):
        repair.after.append(
            Step(
                kind="record",
                node=cut.node,
                title=f"write down that {cut.what} is over",
                plan=cut.plan,
            )
        )


def _one(
    draft: Draft,
    cut: CutOff,
    one: Reshaping,
    made: Mapping[tuple[str, str], Made],
    out: Sequence[Member],
    repair: Repair,
) -> bool:
    """Whether it will be whole: all of it new, or all of it old."""
    news = [(unit, _target(draft, one.node, unit)) for unit in one.news]
    olds = [(unit, target) for unit in one.olds if (target := _target(draft, one.node, unit))]
    there = [target for _, target in news if target is not None and _may_serve(draft, target)]
    if there:
        silent = [
            target.name if target else f"{one.node}/{unit.unit.removesuffix(SUFFIX)}"
            for unit, target in news
            if not _answers(target)
        ]
        return _forward(draft, cut, there, [target for _, target in olds], silent, repair)
    return _back(draft, cut, news, olds, made, out, repair)


def _may_serve(draft: Draft, new: Target) -> bool:
    """Whether requests go there; without a balancer nobody knows who asks what runs."""
    return new.active if draft.snapshot.balancer_node is None else bool(draft.serving(new))


def _answers(new: Target | None) -> bool:
    worker = new.worker if new else None
    active = worker is not None and worker.unit.active_state == "active"
    return active and worker is not None and worker.sample.health in ANSWERS


def _forward(
    draft: Draft,
    cut: CutOff,
    news: Sequence[Target],
    olds: Sequence[Target],
    silent: Sequence[str],
    repair: Repair,
) -> bool:
    there, gone = _names(news), _names(olds)
    if any(_may_serve(draft, old) for old in olds):
        repair.stays.append(
            f"{there} and {gone} may both serve ({cut.what}): drain and stop what is not wanted,"
            " then recover"
        )
        return False
    if silent:
        repair.stays.append(
            f"{there} may serve in the place of {gone} ({cut.what}), but not known to answer:"
            f" {', '.join(silent)}; start what does not run, or drain and stop {there}, then"
            " recover"
        )
        return False
    for old in olds:
        if old.active:
            if members_of(draft.snapshot, old):
                draft.wait_drained(old)
            draft.count_cuts(old)
            draft.systemctl("stop", old)
        if old.unit.unit_file_state in ENABLED:
            draft.systemctl("disable", old)
    repair.told.append(
        f"{there} serve in the place of {gone}, as {cut.who} meant it {ago(cut.minutes)}"
        f" ({cut.what})"
    )
    return True


def _back(
    draft: Draft,
    cut: CutOff,
    news: Sequence[tuple[NewUnit, Target | None]],
    olds: Sequence[tuple[NewUnit, Target]],
    made: Mapping[tuple[str, str], Made],
    out: Sequence[Member],
    repair: Repair,
) -> bool:
    gone = _names([old for _, old in olds])
    for unit, new in news:
        theirs = _not_ours(draft, unit, new, made.get((cut.node, unit.unit)))
        if theirs:
            repair.stays.append(
                f"{gone} stays as it is: {theirs}, so it is not surely what {cut.what} had begun;"
                " stop it where it is not wanted, then recover"
            )
            return False
    before = len(draft.steps)
    for unit, new in news:
        _leave(draft, cut, unit, new, made.get((cut.node, unit.unit)), repair)
    for unit, old in olds:
        members = [member for member in members_of(draft.snapshot, old) if member in out]
        if not old.active:
            draft.systemctl("start", old)
            repair.started.append(old.name)
            if unit.enabled and old.unit.unit_file_state == "disabled":
                draft.systemctl("enable", old)
        if members or not old.active:
            repair.targets[old.name] = old
            repair.members += members
    if len(draft.steps) > before or repair.after or repair.targets:
        repair.told.append(f"{gone} as it was before {cut.who} began {cut.what} {ago(cut.minutes)}")
    return True


def _not_ours(draft: Draft, unit: NewUnit, new: Target | None, file: Made | None) -> str:
    """Why what runs there is not to be stopped, as half a sentence; empty where it may be."""
    if new is None or not new.active:
        return ""
    if unit.digest and file is not None and file.changed:
        return f"{new.name} runs and {UNITS}/{unit.unit} was changed since it was written"
    membership = new.worker.membership if new.worker else None
    if membership in ("absent", "down"):
        return ""
    return f"{new.name} runs on its cards ({membership or 'whether it serves is not known'})"


def _leave(
    draft: Draft,
    cut: CutOff,
    unit: NewUnit,
    new: Target | None,
    file: Made | None,
    repair: Repair,
) -> None:
    """Stop what was begun, and take away what was written for it."""
    if new is not None and new.active:
        draft.count_cuts(new)
        draft.systemctl("stop", new)
    if new is not None and new.unit.unit_file_state in ENABLED and not unit.enabled:
        draft.systemctl("disable", new)
    path = f"{UNITS}/{unit.unit}"
    if not unit.digest or file is None:
        return
    if file.changed:
        draft.warn(f"{path} was changed since it was written, so it stays")
    elif file.there or file.beside:
        prefix = draft.prefixes[cut.node]
        repair.after.append(removal(cut.node, unit.unit, path, unit.digest, prefix))


def _target(draft: Draft, node: str, unit: NewUnit) -> Target | None:
    """The unit as it is now, None where systemd knows none of that name."""
    state = draft.snapshot.node(node).snapshot.units.get(unit.unit)
    for worker in draft.snapshot.workers:
        if (worker.node, worker.unit.name) == (node, unit.unit):
            return Target(worker.name, node, worker.unit, worker)
    known = state is not None and state.load_state != "not-found"
    return Target(f"{node}/{unit.unit}", node, state) if state is not None and known else None


def _names(targets: Sequence[Target]) -> str:
    return ", ".join(target.name for target in targets)

"""A worker split over cards becomes one process on each, and the other way round: the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from llamatop.errors import Refused, UsageError
from llamatop.model.plan import NewUnit, Plan, Reshaping

from . import guards, unit_copy, unit_files
from .card_room import room
from .files import Member
from .impact import members_of
from .newcomers import New, Taken, cards_of, newcomers
from .planning import Draft
from .reshape_steps import ENABLED, start, stop
from .targets import Target
from .unit_copy import Source
from .unit_facts import UnitFacts


class Group(Struct, frozen=True):
    """Workers of a node that leave together, and the cards of each that comes in their place."""

    olds: tuple[Target, ...]
    wanted: tuple[tuple[str, ...], ...]

    @property
    def node(self) -> str:
        """Where they run."""
        return self.olds[0].node


def groups(draft: Draft, targets: Sequence[Target], alone: bool) -> list[Group]:
    """What is to become of the targets; none where nothing is to, which the draft then says.

    Raises UsageError or Refused where these workers cannot be changed so. Of those to unsplit that
    is only said, unless one is named `alone`.
    """
    if draft.action == "unsplit":
        return _to_part(draft, targets, alone)
    if len({target.node for target in targets}) > 1:
        raise UsageError("a process uses the cards of one node: name workers of one node")
    found = [_cards(draft, target) for target in targets]
    if len(targets) == 1:
        if len(found[0]) > 1:
            draft.nothing.append(f"{targets[0].name} is split over {len(found[0])} GPUs already")
            return []
        raise UsageError("split takes two workers or more, whose cards one process is to use")
    _same_upstreams(draft, targets)
    joined = tuple(card for cards in found for card in cards)
    if len(set(joined)) < len(joined):
        raise Refused(f"{', '.join(t.name for t in targets)} share a card")
    return [Group(tuple(targets), (joined,))]


def _to_part(draft: Draft, targets: Sequence[Target], alone: bool) -> list[Group]:
    found: list[Group] = []
    owners: dict[tuple[str, str], str] = {}
    for target in targets:
        if target.worker is not None and len(target.worker.gpus or ()) == 1:
            draft.nothing.append(f"{target.name} runs on one GPU already")
            continue
        try:
            cards = _cards(draft, target)
        except Refused as error:
            if alone:
                raise
            draft.nothing.append(str(error))
            continue
        for card in cards:
            if (target.node, card) in owners:
                raise Refused(f"{owners[target.node, card]} and {target.name} share a card")
            owners[target.node, card] = target.name
        found.append(Group((target,), tuple((card,) for card in cards)))
    return found


def _cards(draft: Draft, target: Target) -> tuple[str, ...]:
    """A worker's cards; raises UsageError or Refused where it cannot be made into another."""
    worker = target.worker
    if worker is None:
        raise UsageError(f"{target.name} is no worker")
    if worker.sample.engine != "llama-server":
        raise Refused(f"{target.name} is no llama-server, and only that can be changed so")
    if not target.active:
        raise Refused(f"{target.name} does not run ({target.unit.active_state}): start it first")
    guards.membership_known(worker, draft.snapshot, "")
    cards = cards_of(draft.snapshot, worker)
    if not cards:
        raise Refused(f"which cards {target.name} uses is not certain: set CUDA_VISIBLE_DEVICES")
    return cards


def _same_upstreams(draft: Draft, targets: Sequence[Target]) -> None:
    """Refuse where one serves an upstream in which another has no line: one process cannot."""
    known = {t.name: {name for name, _ in members_of(draft.snapshot, t)} for t in targets}
    for one in targets:
        for upstream in sorted({name for name, _ in draft.serving(one)}):
            for other in targets:
                if upstream not in known[other.name]:
                    raise Refused(
                        f"{one.name} serves in upstream {upstream}, {other.name} has no server"
                        f" line there, and one process is to take the place of both: drain"
                        f" {one.name}, or put {other.name} in {upstream} too"
                    )


def reshape(
    draft: Draft,
    targets: Sequence[Target],
    found: Sequence[Group],
    facts: Mapping[str, UnitFacts],
    sources: Mapping[tuple[str, str], Source],
) -> Plan:
    """The whole plan; `found` as `groups` gave it. Raises Refused where a guard says no.

    `facts` are by node, `sources` by node and unit.
    """
    if found and draft.snapshot.balancer_node is None:
        draft.warn(
            "this cluster has no balancer: whoever asks the old port has to ask the new ones"
        )
    expects = draft.expectations(targets)
    taken = {node: Taken(set(one.names), set(one.ports)) for node, one in facts.items()}
    made: list[Reshaping] = []
    about: list[str] = []
    for number, group in enumerate(found, 1):
        draft.batch = number if len(found) > 1 else 0
        mine = {unit: one for (node, unit), one in sources.items() if node == group.node}
        news = newcomers(draft.snapshot, group.olds, group.wanted, taken[group.node], mine)
        expects += draft.expectations([new.target for new in news if new.target is not None])
        about.append(_one(draft, group.olds, news, mine))
        made.append(_written_down(group, news))
    what = "; ".join(about)
    if len(about) > 1:
        what = f"one after another, each whole before the next: {what}"
    plan = draft.finished([target.name for target in targets], expects, what)
    return replace(plan, reshapings=tuple(made))


def _written_down(group: Group, news: Sequence[New]) -> Reshaping:
    return Reshaping(
        group.node,
        tuple(
            NewUnit(new.unit, "", new.target.unit.unit_file_state in ENABLED)
            if new.target is not None
            else NewUnit(new.unit, unit_files.digest(new.data))
            for new in news
        ),
        tuple(
            NewUnit(old.unit.name, "", old.unit.unit_file_state in ENABLED) for old in group.olds
        ),
    )


def _one(
    draft: Draft, olds: Sequence[Target], news: Sequence[New], sources: Mapping[str, Source]
) -> str:
    """The steps of one group; returns what they come to, in words."""
    _alike(olds, sources)
    port = olds[0].worker.sample.launch.port if olds[0].worker else None
    for name in unit_copy.naming(news[0].text, port) if port else ():
        draft.warn(f"{name}= of the new units still names port {port}: see whether it is meant")
    enough = room(draft, olds)
    out = [member for old in olds for member in draft.serving(old)]
    back = [member for new in news for member in new.back]
    beside = [pair for new in reversed(news) for pair in new.beside]
    title = f"put {', '.join(new.name for new in news)} in"
    if enough:
        start(draft, olds, news, sources, drains=True)
        if out or back or beside:
            joined = {upstream for upstream, _ in (*back, *(member for member, _ in beside))}
            draft.stays([member for member in out if member[0] not in joined])
            gone = f"drain {', '.join(old.name for old in olds)}"
            title = f"{title}, {gone}" if joined else gone
            draft.transaction(title, out=out, back=back, beside=beside)
        for old in olds:
            if old.worker is not None and old.worker.members:
                draft.wait_drained(old)
        stop(draft, olds)
    else:
        _last_one(draft, out)
        draft.take_out(olds)
        stop(draft, olds)
        start(draft, olds, news, sources, drains=False)
        if back or beside:
            draft.transaction(title, back=back, beside=beside)
    return _about(draft, olds, news, enough)


def _about(draft: Draft, olds: Sequence[Target], news: Sequence[New], enough: bool) -> str:
    there, gone = (", ".join(one.name for one in each) for each in (news, olds))
    cards = sum(len(new.cards.split(",")) for new in news)
    what = "one process a GPU" if draft.action == "unsplit" else f"one process over {cards} GPUs"
    order = (
        "the cards have room for both, so the new ones serve before the old leaves"
        if enough
        else "the cards have no room for both, so the old one leaves first"
    )
    return f"{what}: {there} instead of {gone}, whose unit and server lines stay, down; {order}"


def _alike(olds: Sequence[Target], sources: Mapping[str, Source]) -> None:
    first = sources[olds[0].unit.name]
    for old in olds[1:]:
        if unit_copy.alike(sources[old.unit.name]) != unit_copy.alike(first):
            raise Refused(
                f"{olds[0].name} and {old.name} are started with different flags or variables:"
                " make them alike first, or the one process would not be what both were"
            )


def _last_one(draft: Draft, out: list[Member]) -> None:
    try:
        draft.stays(out)
    except Refused as error:
        raise Refused(
            f"{error} (the cards have no room for old and new together, so for as long as the new"
            " ones load nothing would serve)"
        ) from error

"""A worker split over cards becomes one process on each, and the other way round: the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llamatop.advise.fit import fit
from llamatop.errors import Refused, UsageError
from llamatop.model.figures import bytes_short
from llamatop.model.plan import Plan, Step, UnitFile, Verb

from . import guards, systemd, unit_copy, unit_files, unit_secrets
from .files import Member
from .impact import members_of
from .newcomers import New, cards_of, newcomers
from .planning import Draft
from .steps import DRAIN_SECONDS, HEALTHY_SECONDS, SYSTEMCTL_SECONDS
from .targets import Target
from .unit_copy import Source
from .unit_facts import UnitFacts

_ENABLED = ("enabled", "enabled-runtime")


def groups(draft: Draft, targets: Sequence[Target]) -> tuple[tuple[str, ...], ...]:
    """The cards of each new worker; empty where there is nothing to do, which the draft then says.

    Raises UsageError or Refused where these workers cannot be changed so.
    """
    snapshot = draft.snapshot
    if draft.action == "unsplit" and len(targets) != 1:
        raise UsageError("unsplit takes one worker at a time")
    if len({target.node for target in targets}) > 1:
        raise UsageError("a process uses the cards of one node: name workers of one node")
    found = []
    for target in targets:
        worker = target.worker
        if worker is None:
            raise UsageError(f"{target.name} is no worker")
        if worker.sample.engine != "llama-server":
            raise Refused(f"{target.name} is no llama-server, and only that can be changed so")
        if not target.active:
            raise Refused(
                f"{target.name} does not run ({target.unit.active_state}): start it first"
            )
        guards.membership_known(worker, snapshot, "")
        cards = cards_of(snapshot, worker)
        if not cards:
            raise Refused(
                f"which cards {target.name} uses is not certain: set CUDA_VISIBLE_DEVICES"
            )
        found.append(cards)
    if draft.action == "unsplit":
        if len(found[0]) == 1:
            draft.nothing.append(f"{targets[0].name} runs on one GPU already")
            return ()
        return tuple((card,) for card in found[0])
    if len(targets) == 1:
        if len(found[0]) > 1:
            draft.nothing.append(f"{targets[0].name} is split over {len(found[0])} GPUs already")
            return ()
        raise UsageError("split takes two workers or more, whose cards one process is to use")
    _same_upstreams(draft, targets)
    joined = tuple(card for cards in found for card in cards)
    if len(set(joined)) < len(joined):
        raise Refused(f"{', '.join(t.name for t in targets)} share a card")
    return (joined,)


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
    wanted: Sequence[tuple[str, ...]],
    facts: UnitFacts,
    sources: Mapping[str, Source],
) -> Plan:
    """The whole plan; `wanted` as `groups` gave it. Raises Refused where a guard says no."""
    olds = list(targets)
    expects = draft.expectations(olds)
    if not wanted:
        return draft.finished([old.name for old in olds], expects)
    _alike(olds, sources)
    news = newcomers(draft.snapshot, olds, wanted, facts, sources)
    port = olds[0].worker.sample.launch.port if olds[0].worker else None
    for name in unit_copy.naming(news[0].text, port) if port else ():
        draft.warn(f"{name}= of the new units still names port {port}: see whether it is meant")
    room = _room(draft, olds, news)
    expects += draft.expectations([new.target for new in news if new.target is not None])
    if draft.snapshot.balancer_node is None:
        draft.warn(
            "this cluster has no balancer: whoever asks the old port has to ask the new ones"
        )
    out = [member for old in olds for member in draft.serving(old)]
    back = [member for new in news for member in new.back]
    beside = [pair for new in reversed(news) for pair in new.beside]
    title = f"put {', '.join(new.name for new in news)} in"
    if room:
        _start(draft, olds, news, sources, drains=True)
        if out or back or beside:
            joined = {upstream for upstream, _ in (*back, *(member for member, _ in beside))}
            draft.stays([member for member in out if member[0] not in joined])
            gone = f"drain {', '.join(old.name for old in olds)}"
            title = f"{title}, {gone}" if joined else gone
            draft.transaction(title, out=out, back=back, beside=beside)
        for old in olds:
            if old.worker is not None and old.worker.members:
                draft.wait_drained(old)
        _stop(draft, olds)
    else:
        _last_one(draft, out)
        draft.take_out(olds)
        _stop(draft, olds)
        _start(draft, olds, news, sources, drains=False)
        if back or beside:
            draft.transaction(title, back=back, beside=beside)
    return draft.finished([old.name for old in olds], expects, _about(draft, olds, news, room))


def _about(draft: Draft, olds: Sequence[Target], news: Sequence[New], room: bool) -> str:
    there, gone = (", ".join(one.name for one in each) for each in (news, olds))
    cards = sum(len(new.cards.split(",")) for new in news)
    what = "one process a GPU" if draft.action == "unsplit" else f"one process over {cards} GPUs"
    order = (
        "the cards have room for both, so the new ones serve before the old leaves"
        if room
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


def _room(draft: Draft, olds: Sequence[Target], news: Sequence[New]) -> bool:
    """Whether the cards surely hold old and new together; raises Refused where never the new.

    A split process takes no more of each card than a whole one does.
    """
    cards = [gpu for gpu in draft.snapshot.gpus if gpu.node == olds[0].node]
    held: dict[str, int] = {}
    for old in olds:
        pids = {str(pid) for pid in (old.worker.sample.pids if old.worker else None) or ()}
        for gpu in cards:
            for pid, used in (gpu.sample.processes or {}).items():
                if pid in pids and used is None:
                    return False
                if pid in pids and used is not None:
                    held[gpu.sample.uuid] = held.get(gpu.sample.uuid, 0) + used
    if not held:
        return False
    need = _need(draft, olds[0], held) if draft.action == "unsplit" else max(held.values())
    room = True
    for gpu in cards:
        mine = held.get(gpu.sample.uuid)
        total, used = gpu.sample.memory_total_bytes, gpu.sample.memory_used_bytes
        if mine is None:
            continue
        if total is None or used is None:
            room = False
            continue
        if need > total - max(0, used - mine):
            text = (
                f"{', '.join(old.name for old in olds)} takes {bytes_short(need)} on its cards, and"
                f" GPU {gpu.sample.index} has {bytes_short(total - max(0, used - mine))} for it"
            )
            if not draft.force:
                raise Refused(f"{text}: one process would not fit; --force tries it all the same")
            draft.warn(text)
        room = room and need * 1.05 <= total - used
    return room


def _need(draft: Draft, old: Target, held: Mapping[str, int]) -> int:
    """What one process on one card takes: by the model's file where that was read, else in all."""
    assert old.worker is not None
    model = draft.snapshot.node(old.node).snapshot.models.get(old.worker.sample.launch.model or "")
    cards = [gpu for gpu in draft.snapshot.gpus if gpu.node == old.node]
    found = fit(old.worker, model, cards)
    if found is None or found.alone is None:
        return sum(held.values())
    return found.alone.total + found.spare_bytes


def _last_one(draft: Draft, out: list[Member]) -> None:
    try:
        draft.stays(out)
    except Refused as error:
        raise Refused(
            f"{error} (the cards have no room for old and new together, so for as long as the new"
            " ones load nothing would serve)"
        ) from error


def _stop(draft: Draft, olds: Sequence[Target]) -> None:
    """Stop and disable; each taken back by a start that is waited for."""
    for old in olds:
        draft.count_cuts(old)
        draft.systemctl("stop", old)
        again = _systemctl(draft, "start", old)
        well = _healthy(draft, old.name, old.node, old.unit.name, draft.steps[-1].members)
        _back(draft, again, well)
        if old.unit.unit_file_state in _ENABLED:
            draft.systemctl("disable", old)
            _back(draft, _systemctl(draft, "enable", old))


def _start(
    draft: Draft,
    olds: Sequence[Target],
    news: Sequence[New],
    sources: Mapping[str, Source],
    *,
    drains: bool,
) -> None:
    """Write what is not there, have systemd read it, then start one after another."""
    node = olds[0].node
    old = olds[0]
    written = [new for new in news if new.target is None]
    for new in written:
        _write(draft, node, new, sources[old.unit.name])
    if written:
        _reload(draft, node, written)
    for new in news:
        if old.unit.unit_file_state in _ENABLED:
            _add(draft, "enable", node, new, back="disable")
        _add(draft, "start", node, new, back="stop", drains=drains)
        draft.steps.append(_healthy(draft, new.name, node, new.unit, new.members))


def _write(draft: Draft, node: str, new: New, old: Source) -> None:
    data = new.text.encode("utf-8", "surrogateescape")
    remove = Step(
        kind="unit-file",
        node=node,
        title=f"remove {new.path}",
        commands=tuple(draft.command(node, c) for c in unit_files.removing(new.path)),
        unit=new.unit,
        unit_file=UnitFile(new.path, None),
    )
    draft.steps.append(
        Step(
            kind="unit-file",
            node=node,
            title=f"write {new.path}",
            commands=tuple(draft.command(node, c) for c in unit_files.writing(new.path)),
            diff=unit_secrets.diff(old, new.path, new.text),
            worker=new.name,
            unit=new.unit,
            unit_file=UnitFile(new.path, data),
            back=(remove,),
        )
    )


def _reload(draft: Draft, node: str, written: Sequence[New]) -> None:
    draft.steps.append(
        Step(
            kind="systemctl",
            node=node,
            title="daemon-reload: new unit files",
            commands=(draft.command(node, systemd.daemon_reload()),),
            unit=written[0].unit,
            verb="daemon-reload",
            timeout_seconds=SYSTEMCTL_SECONDS,
        )
    )


def _add(
    draft: Draft, verb: Verb, node: str, new: New, *, back: Verb, drains: bool = False
) -> None:
    def step(verb: Verb) -> Step:
        return Step(
            kind="systemctl",
            node=node,
            title=f"{verb} {new.name}",
            commands=(draft.command(node, systemd.command(verb, new.unit)),),
            worker=new.name,
            unit=new.unit,
            verb=verb,
            timeout_seconds=SYSTEMCTL_SECONDS,
        )

    quiet = Step(
        kind="wait-drained",
        node=node,
        title=f"wait until nothing runs on {new.name}",
        worker=new.name,
        unit=new.unit,
        members=new.members,
        timeout_seconds=draft.timeout_seconds or DRAIN_SECONDS,
    )
    undo = (quiet, step(back)) if drains else (step(back),)
    draft.steps.append(replace(step(verb), back=undo))


def _systemctl(draft: Draft, verb: Verb, old: Target) -> Step:
    return Step(
        kind="systemctl",
        node=old.node,
        title=f"{verb} {old.name}",
        commands=(draft.command(old.node, systemd.command(verb, old.unit.name)),),
        worker=old.name,
        unit=old.unit.name,
        verb=verb,
        timeout_seconds=SYSTEMCTL_SECONDS,
    )


def _healthy(draft: Draft, name: str, node: str, unit: str, members: tuple[Member, ...]) -> Step:
    return Step(
        kind="wait-healthy",
        node=node,
        title=f"wait until {name} answers",
        worker=name,
        unit=unit,
        members=members,
        timeout_seconds=draft.timeout_seconds or HEALTHY_SECONDS,
    )


def _back(draft: Draft, *steps: Step) -> None:
    draft.steps[-1] = replace(draft.steps[-1], back=steps)

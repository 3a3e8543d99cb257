"""The steps that make, start and leave units in a split or unsplit, each with its way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from llamatop.model.plan import Step, Verb

from . import systemd, unit_files, unit_secrets
from .files import Member
from .newcomers import New
from .planning import Draft
from .steps import DRAIN_SECONDS, HEALTHY_SECONDS, SYSTEMCTL_SECONDS
from .targets import Target
from .unit_copy import Source

ENABLED = ("enabled", "enabled-runtime")


def stop(draft: Draft, olds: Sequence[Target]) -> None:
    """Stop and disable; each taken back by a start that is waited for."""
    for old in olds:
        draft.count_cuts(old)
        draft.systemctl("stop", old)
        again = _systemctl(draft, "start", old)
        well = _healthy(draft, old.name, old.node, old.unit.name, draft.steps[-1].members)
        _back(draft, again, well)
        if old.unit.unit_file_state in ENABLED:
            draft.systemctl("disable", old)
            _back(draft, _systemctl(draft, "enable", old))


def start(
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
        if old.unit.unit_file_state in ENABLED:
            _do(draft, "enable", node, new, back="disable")
        _do(draft, "start", node, new, back="stop", drains=drains)
        draft.add(_healthy(draft, new.name, node, new.unit, new.members))


def _write(draft: Draft, node: str, new: New, old: Source) -> None:
    file = unit_files.written(new.path, new.data)
    remove = unit_files.removal(node, new.unit, new.path, file.digest, draft.prefixes[node])
    draft.add(
        Step(
            kind="unit-file",
            node=node,
            title=f"write {new.path}",
            commands=tuple(draft.command(node, c) for c in unit_files.writing(new.path)),
            diff=unit_secrets.diff(old, new.path, new.text),
            worker=new.name,
            unit=new.unit,
            unit_file=file,
            back=(remove,),
        )
    )


def _reload(draft: Draft, node: str, written: Sequence[New]) -> None:
    draft.add(
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


def _do(draft: Draft, verb: Verb, node: str, new: New, *, back: Verb, drains: bool = False) -> None:
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
    draft.add(replace(step(verb), back=undo))


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

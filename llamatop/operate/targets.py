"""Which units the words of the person mean."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence

from msgspec import Struct

from llamatop.collect.names import SUFFIX, select
from llamatop.errors import UsageError
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import UnitState


class Target(Struct, frozen=True):
    """A unit to act on: a worker's, a tunnel's or nginx's own; `worker` is None for the latter."""

    name: str
    node: str
    unit: UnitState
    worker: WorkerView | None = None

    @property
    def active(self) -> bool:
        """Whether systemd runs it or is about to (`activating`, `reloading` included)."""
        return self.unit.active_state in ("active", "activating", "reloading")


def resolve(snapshot: ClusterSnapshot, words: Sequence[str]) -> tuple[Target, ...]:
    """The units meant by `node/short`, `node/UNIT` or globs, each once, in the order named.

    A glob means workers; tunnels and nginx only where it matches no worker, so that `node1/*`
    never stops nginx. Raises UsageError where a word means nothing, with the nearest name.
    """
    others = [
        Target(f"{node.name}/{unit.name.removesuffix(SUFFIX)}", node.name, unit)
        for node in snapshot.nodes
        for unit in node.snapshot.units.values()
        if unit.kind in ("tunnel", "nginx")
    ]
    found: dict[tuple[str, str], Target] = {}
    for word in words:
        workers = select(word, snapshot.workers)
        meant = [Target(w.name, w.node, w.unit, w) for w in workers]
        meant = meant or [other for other in others if _means(word, other)]
        if not meant:
            raise UsageError(_unknown(snapshot, others, word))
        for target in meant:
            found.setdefault((target.node, target.unit.name), target)
    return tuple(found.values())


def behind(snapshot: ClusterSnapshot) -> dict[tuple[str, str], Target]:
    """The worker that each server line, as (upstream, address), leads to; the certain ones."""
    workers = {w.name: Target(w.name, w.node, w.unit, w) for w in snapshot.workers}
    return {
        (member.upstream, member.address): workers[member.worker]
        for member in snapshot.members
        if member.worker in workers
    }


def _means(word: str, target: Target) -> bool:
    names = (target.name, f"{target.node}/{target.unit.name}")
    return word in names or any(fnmatch.fnmatchcase(name, word) for name in names)


def _unknown(snapshot: ClusterSnapshot, others: Sequence[Target], word: str) -> str:
    known = [w.name for w in snapshot.workers] + [other.name for other in others]
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
    node = word.partition("/")[0]
    for view in snapshot.nodes:
        if not fnmatch.fnmatchcase(view.name, node):
            continue
        if not view.reachable:
            hint = f"{view.name} does not answer: {view.fault or 'no snapshot yet'}"
        elif not view.snapshot.units and "units" in view.snapshot.faults:
            hint = f"the units of {view.name} are not known: {view.snapshot.faults['units']}"
    return f"no worker or unit is called {word}; {hint}"

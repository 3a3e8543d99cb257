"""All rules over one snapshot: what they find, worst first."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from llamatop.advise import (
    access,
    balancing,
    dead,
    fitting,
    gpus,
    members,
    placement,
    platform,
    servers,
    tunnels,
    units,
    wear,
)
from llamatop.advise.finding import Finding, Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Silence

RULES: tuple[Rule, ...] = (
    *dead.RULES,
    *gpus.RULES,
    *wear.RULES,
    *placement.RULES,
    *platform.RULES,
    *units.RULES,
    *servers.RULES,
    *fitting.RULES,
    *balancing.RULES,
    *members.RULES,
    *tunnels.RULES,
    *access.RULES,
)

# Findings about why a node is not reached.
_OF_LOST = ("host-key", "node-lost")
_RANKS = {"error": 0, "warning": 1, "info": 2}


class Diagnosis(Struct, frozen=True):
    """What the rules say of a snapshot.

    `findings` are worst first (error, warning, info), then by place; `silenced` counts those that
    the operator does not want to hear of. `faults` are sentences about rules that failed: what
    these would have found is unknown.
    """

    findings: tuple[Finding, ...] = ()
    silenced: int = 0
    rules: int = 0
    nodes: int = 0
    faults: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether nothing found is more than a remark."""
        return all(finding.severity == "info" for finding in self.findings)


class Group(Struct, frozen=True):
    """Findings that say the same of several places, in the order of places."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The one that speaks for all."""
        return self.findings[0]

    @property
    def key(self) -> tuple[str, str, str]:
        """What they have in common, the same from one diagnosis to the next."""
        return (self.first.id, self.first.severity, self.first.why)


def judge(snapshot: ClusterSnapshot, rules: Sequence[Rule] = RULES) -> Diagnosis:
    """Judge the cluster by all rules; a rule that raises is a fault of its own and ends no other.

    Reads the snapshot only, so that it may run in any thread.
    """
    found: list[Finding] = []
    faults: list[str] = []
    for rule in rules:
        try:
            found.extend(rule(snapshot))
        except Exception as error:  # noqa: BLE001 - one wrong rule must not hide the others
            faults.append(
                f"a fault of llamatop itself in its rule {_name(rule)}"
                f" ({type(error).__name__}: {error}); it finds nothing more this time"
            )
    known = list(dict.fromkeys(found))
    away = {node.name for node in snapshot.nodes if not node.reachable}
    if away:
        # What was seen of a node before it was lost may have been mended since.
        places = Places(snapshot)
        known = [one for one in known if one.id in _OF_LOST or places.node(one.place) not in away]
    silent = _silent(snapshot.cluster.silences)
    heard = [finding for finding in known if not silent(finding)]
    heard.sort(key=lambda one: (_RANKS[one.severity], natural(one.place), one.id))
    return Diagnosis(
        findings=tuple(heard),
        silenced=len(known) - len(heard),
        rules=len(rules),
        nodes=len(snapshot.nodes),
        faults=tuple(faults),
    )


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """The findings with those of one id together, in the order of the worst and first of each."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.id, finding.severity, finding.why), []).append(finding)
    return tuple(Group(tuple(some)) for some in alike.values())


class Places:
    """What the places of findings belong to; made once for many of them."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._nodes = {node.name for node in snapshot.nodes}
        self._workers = {worker.name: worker for worker in snapshot.workers}
        for worker in snapshot.workers:
            self._workers.setdefault(f"{worker.node}:{worker.unit.name}", worker)

    def node(self, place: str) -> str | None:
        """The node that the place is of, None where it is of none."""
        if place in self._workers:
            return self._workers[place].node
        names = [place, place.partition("/")[0], *self._before_colons(place)]
        return next((name for name in names if name in self._nodes), None)

    def worker(self, place: str) -> str | None:
        """The worker that the place is, or whose unit it is; None where it is none."""
        worker = self._workers.get(place)
        return worker.name if worker is not None else None

    def _before_colons(self, place: str) -> Iterator[str]:
        """The longest first: a node may be called by an address of IPv6."""
        while ":" in place:
            place = place.rpartition(":")[0]
            yield place


def natural(place: str) -> tuple[tuple[int, str], ...]:
    """A key by which node2 comes before node10."""
    parts = re.split(r"(\d+)", place)
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts)


def _silent(silences: Iterable[Silence]) -> Callable[[Finding], bool]:
    places: dict[str, list[re.Pattern[str]]] = {}
    for silence in silences:
        places.setdefault(silence.rule, []).append(re.compile(fnmatch.translate(silence.place)))

    def silent(finding: Finding) -> bool:
        return any(place.match(finding.place) for place in places.get(finding.id, ()))

    return silent


def _name(rule: Rule) -> str:
    module = getattr(rule, "__module__", "").rpartition(".")[2]
    return f"{module}.{getattr(rule, '__name__', 'unnamed')}"

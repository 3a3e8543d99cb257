"""The doctor's findings, for people and as JSON."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from llamatop.advise.doctor import Diagnosis, Group, Places, grouped
from llamatop.advise.finding import Finding
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.text import plain

FILE_WIDTH = 100
_INDENT = "    "
# of one finding: different words, and places of which the same is said
_MOST_TOLD, _MOST_PLACES = 4, 12
_MARKS = {
    "error": ("\u2717", "bold red"),
    "warning": ("\u25b2", "yellow"),
    "info": ("\u00b7", "cyan"),
}


def to_json(diagnosis: Diagnosis, snapshot: ClusterSnapshot) -> str:
    """The object of `doctor --json`: a finding for every place; unknown is null."""
    places = Places(snapshot)
    told = {
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "place": finding.place,
                "node": places.node(finding.place),
                "worker": places.worker(finding.place),
                "evidence": finding.evidence,
                "why": finding.why,
                "mend": finding.mend,
            }
            for finding in diagnosis.findings
        ],
        "silenced": diagnosis.silenced,
        "rules": diagnosis.rules,
        "faults": list(diagnosis.faults),
        "unread": [
            {"node": node.name, "fault": node.fault}
            for node in snapshot.nodes
            if not node.reachable
        ],
    }
    text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()


def print_findings(diagnosis: Diagnosis, out: TextIO) -> None:
    """Print each finding once with all its places; nothing where there is none."""
    console = Console(
        file=out,
        width=None if out.isatty() else FILE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=True if os.environ.get("NO_COLOR") else None,
    )
    for number, group in enumerate(grouped(diagnosis.findings)):
        if number:
            console.print()
        for line in _group(group, max(40, min(console.width, 120))):
            console.print(line, soft_wrap=True)


def summary(diagnosis: Diagnosis, unread: int) -> str:
    """One line: what was found, by how many rules over how many nodes, what was not heard."""
    counts = [
        f"{count} {word}{'s' if count > 1 and word != 'info' else ''}"
        for word in _MARKS
        if (count := sum(one.severity == word for one in diagnosis.findings))
    ]
    parts = [
        f"{', '.join(counts) or 'nothing found'}: {diagnosis.rules} rules over"
        f" {diagnosis.nodes - unread} node{'s' if diagnosis.nodes - unread != 1 else ''}"
    ]
    if diagnosis.silenced:
        parts.append(f"{diagnosis.silenced} silenced")
    return ", ".join(parts)


def _group(group: Group, width: int) -> Iterator[Text]:
    first = group.first
    mark, style = _MARKS[first.severity]
    head = Text(f"{mark} {first.severity}  ", style=style)
    several = len(group.findings) > 1
    head.append(plain(first.id), "bold")
    head.append(f"  {len(group.findings)} places" if several else f"  {plain(first.place)}", "none")
    yield head
    seen = _alike(group.findings, "evidence")
    for evidence, places in seen[:_MOST_TOLD]:
        yield from _wrapped(f"{_listed(places)}: {evidence}" if several else evidence, width)
    yield from _more(seen, width)
    yield from _wrapped(first.why, width, "why   ")
    mends = _alike(group.findings, "mend")
    for number, (mend, places) in enumerate(mends[:_MOST_TOLD]):
        told = f"{_listed(places)}: {mend}" if len(mends) > 1 else mend
        yield from _wrapped(told, width, "      " if number else "mend  ")
    if len(mends) > _MOST_TOLD:
        yield from _wrapped("and so on for the others", width, "      ")


def _alike(findings: Sequence[Finding], field: str) -> list[tuple[str, list[str]]]:
    """The different words there, each with the places that it is said of."""
    said: dict[str, list[str]] = {}
    for finding in findings:
        said.setdefault(getattr(finding, field), []).append(plain(finding.place))
    return [(plain(words), places) for words, places in said.items()]


def _more(seen: Sequence[tuple[str, list[str]]], width: int) -> Iterator[Text]:
    """Where the rest is told, where there is a rest."""
    rest = [place for _, places in seen[_MOST_TOLD:] for place in places]
    if rest:
        told = f"and {len(rest)} more: {_listed(rest)}; llamatop doctor --json tells of each"
        yield from _wrapped(told, width)


def _listed(places: Sequence[str]) -> str:
    more = len(places) - _MOST_PLACES
    return ", ".join(places[:_MOST_PLACES]) + (f" and {more} more" if more > 0 else "")


def _wrapped(text: str, width: int, label: str = "") -> Iterator[Text]:
    room = width - len(_INDENT) - len(label)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        told = Text(_INDENT)
        told.append(label if not number else " " * len(label), "dim")
        told.append(line)
        yield told

"""What is wrong and what could be better, as lines: one for all places that it is said of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from rich.cells import cell_len
from rich.text import Text

from llamatop.advise.finding import Finding
from llamatop.app.render.alerts import Alert
from llamatop.app.render.columns import finished
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, fit_name, piece, wrap
from llamatop.model.cluster import Severity
from llamatop.model.text import plain

if TYPE_CHECKING:
    from llamatop.advise.doctor import Diagnosis, Group

MARKS = {"error": "✗", "warning": "▲", "info": "·"}
_RANKS = {"error": 0, "warning": 1, "info": 2}
_NOW = "now"
# What is told of these is also an alert of the moment; it is shown once, with its mend.
_ALSO_NOW = ("worker-dead-in-upstream", "gpu-hot", "gpu-throttled", "gpu-fault", "host-key")
# Ages, other durations, shares and counts of times; not the digits of names, sizes and codes.
_MOVING = re.compile(
    r" \([^()]* old\)"
    r"|(?<![\w.-])(?:(?:\d+[dhm])*\d+[dhms]|\d+(?:\.\d+)? ?(?:%|(?:ms|s|times)\b))(?![\w-])"
)


class Entry(Struct, frozen=True):
    """One thing that is wrong, with its places: an alert of this moment, or findings of a rule.

    `key` stays the same from one look to the next. `gone` is what is wrong no more; `told` what a
    finding says too; `takes_out` whether `f` takes out what is dead there. Of an alert that
    several places share `findings` are these, without a mend.
    """

    key: tuple[str, ...]
    severity: Severity
    title: str
    places: tuple[str, ...]
    text: str
    findings: tuple[Finding, ...] = ()
    gone: bool = False
    told: bool = False
    takes_out: bool = False

    @property
    def now(self) -> bool:
        """Whether it is an alert of this moment."""
        return self.title == _NOW

    @property
    def rank(self) -> tuple[int, bool]:
        """The worst first, and what is wrong now before what could be better."""
        return (_RANKS[self.severity], not self.now)

    def says(self, words: str) -> bool:
        """Whether each of the words stands somewhere in it."""
        told = [self.title, self.severity, self.text, *self.places]
        told += [f"{one.evidence} {one.mend}" for one in self.findings]
        whole = " ".join(told).casefold()
        return all(word in whole for word in words.casefold().split())


class AdviceRow(Struct, frozen=True):
    """A line: the entry as a whole, or one of its places where `finding` is set.

    `nth` counts the lines of one entry and place from 0.
    """

    entry: Entry
    finding: Finding | None = None
    unfolded: bool = False
    nth: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """The same from one look to the next."""
        if self.finding is None:
            return (*self.entry.key, "")
        return (*self.entry.key, self.finding.place, *([str(self.nth)] if self.nth else []))

    @property
    def meant(self) -> tuple[Finding, ...]:
        """The findings that the line is about; none of an alert."""
        if self.entry.now:
            return ()
        return self.entry.findings if self.finding is None else (self.finding,)

    @property
    def places(self) -> tuple[str, ...]:
        """Their places, or the alert's."""
        return self.entry.places if self.finding is None else (self.finding.place,)


def unfolded(entry: Entry) -> list[AdviceRow]:
    """A line for each finding of the entry; no two have the same key."""
    seen: dict[str, int] = {}
    rows = []
    for one in entry.findings:
        nth = seen[one.place] = seen.get(one.place, -1) + 1
        rows.append(AdviceRow(entry, one, nth=nth))
    return rows


def entries(alerts: Sequence[Alert], diagnosis: Diagnosis | None) -> list[Entry]:
    """Everything that is wrong, worst first; alerts that say the same of several places as one."""
    known = diagnosis.findings if diagnosis is not None else ()
    told = {one.place for one in known if one.id in _ALSO_NOW}
    alike: dict[tuple[str, ...], list[Finding]] = {}
    takers: set[tuple[str, ...]] = set()
    for alert in alerts:
        key: tuple[str, ...] = (_NOW, alert.severity, _MOVING.sub("", alert.text))
        place = alert.where.replace(" gpu ", ":GPU")
        words = alert.text + alert.next
        takers.update({key} if alert.takes_out else ())
        alike.setdefault(key, []).append(Finding(_NOW, alert.severity, place, words, "", ""))
    found = []
    for key, every in alike.items():
        some = [one for one in every if one.place not in told]
        first = (some or every)[0]
        places = tuple(one.place for one in some or every)
        several = tuple(some) if len(some) > 1 else ()
        found.append(
            Entry(
                key,
                first.severity,
                _NOW,
                places,
                first.evidence,
                several,
                told=not some,
                takes_out=key in takers,
            )
        )
    for group in _groups(diagnosis):
        places = tuple(one.place for one in group.findings)
        first = group.first
        found.append(
            Entry(group.key, first.severity, first.id, places, first.evidence, group.findings)
        )
    return sorted(found, key=lambda entry: entry.rank)


def _groups(diagnosis: Diagnosis | None) -> Sequence[Group]:
    if diagnosis is None:
        return ()
    # The first screen does without the rules.
    from llamatop.advise.doctor import grouped

    return grouped(diagnosis.findings)


def count(diagnosis: Diagnosis | None, palette: Palette) -> Text:
    """How much there is to mend, for the headline; nothing where that is nothing."""
    groups = [group for group in _groups(diagnosis) if group.first.severity != "info"]
    if not groups:
        return Text()
    worst = min((group.first.severity for group in groups), key=_RANKS.__getitem__)
    text = piece("a", palette["key"])
    noun = "finding" if len(groups) == 1 else "findings"
    text.append(f" {len(groups)} {noun}", palette[f"event.{worst}"])
    return text


def heading(
    rows: Sequence[Entry],
    diagnosis: Diagnosis | None,
    width: int,
    palette: Palette,
    needle: str = "",
    shown: int | None = None,
) -> Text:
    """How many of what, by how many rules, and what is not shown."""
    text = piece(" advice", palette["brand"])
    for severity, noun in (("error", "error"), ("warning", "warning"), ("info", "remark")):
        some = sum(entry.severity == severity and not entry.gone for entry in rows)
        if some:
            words = f"  {MARKS[severity]} {some} {noun}{'' if some == 1 else 's'}"
            text.append(words, palette[f"event.{severity}"])
    if needle:
        text.append(f"  {shown} of {len(rows)} ", palette["faint"])
        text.append(f"/{plain(needle)}", palette["match"])
    if diagnosis is None:
        told = ["judging…"]
    else:
        told = [f"{diagnosis.rules} rules over {diagnosis.nodes} nodes"]
        if diagnosis.silenced:
            told.insert(0, f"{diagnosis.silenced} silenced")
        if diagnosis.faults:
            told.insert(0, f"{len(diagnosis.faults)} rules failed")
    while told and text.cell_len + len(" · ".join(told)) + 3 > width:
        told.pop()
    words = " · ".join(told)
    text.append(" " * max(0, width - text.cell_len - len(words) - 1))
    return text.append(words, palette["faint"])


def line(row: AdviceRow, width: int, palette: Palette, selected: bool) -> Text:
    """Mark, place and evidence; the rule's id too where there is room."""
    entry, finding = row.entry, row.finding
    text = Text(no_wrap=True)
    text.append("▸" if selected else " ", palette["brand"])
    several = len(entry.places) > 1
    role = "health.good" if entry.gone else f"event.{entry.severity}"
    words = palette["faint"] if entry.gone else palette["text"]
    if finding is not None:
        text.append("    ")
    else:
        text.append("− " if row.unfolded else "+ " if several else "  ", palette["faint"])
        text.append(f"{'✓' if entry.gone else MARKS[entry.severity]} ", palette[role])
    names = min(30, max(10, width // 4))
    place, *more = row.places
    tail = f" +{len(more)}" if more and not row.unfolded else ""
    if row.unfolded:
        text.append(fit(f"{len(entry.places)} places", names), words)
    else:
        text.append(fit_name(place, names - len(tail)).rstrip(), words)
        text.append(tail, palette["faint"])
        text.append(" " * (5 + names - cell_len(text.plain)))
    text.append("  ")
    room = width - cell_len(text.plain) - 1
    if width >= 110 and finding is None:
        text.append(fit(entry.title, 26) + "  ", palette["dim"])
        room -= 28
    evidence = entry.text if finding is None else finding.evidence
    if row.unfolded:
        evidence = entry.findings[0].why or entry.text
    text.append(fit("mended: " + evidence if entry.gone else evidence, room), words)
    return finished(text, width, palette, selected)


def detail(row: AdviceRow, width: int, palette: Palette, may_change: bool) -> list[Text]:
    """The whole of it: the values seen, why they matter, the mend, the places."""
    entry = row.entry
    head = piece(f" {plain(entry.title)}", palette["heading"])
    state = "mended" if entry.gone else entry.severity
    head.append(f"  {state}", palette["health.good" if entry.gone else f"event.{entry.severity}"])
    made = [head]
    if not row.meant:
        text = entry.text if row.finding is None else row.finding.evidence
        made += _told("seen", f"{row.places[0]}: {text}", width, palette)
        if len(row.places) > 1:
            made += _told("also", ", ".join(row.places[1:]), width, palette)
        return made
    first = row.meant[0]
    made += _told("seen", f"{first.place}: {first.evidence}", width, palette)
    made += _told("why", first.why, width, palette)
    made += _told("mend", first.mend, width, palette)
    if len(row.meant) > 1:
        others = ", ".join(one.place for one in row.meant[1:])
        made += _told("also", others, width, palette)
    if first.plan is not None and may_change and not entry.gone:
        targets = ", ".join(targets_of(row))
        offer = piece(" f     ", palette["key"])
        offer.append(fit(f"{first.plan.action} {targets}: the plan is shown first", width - 8))
        made.append(offer)
    return made


def targets_of(row: AdviceRow) -> tuple[str, ...]:
    """What the plan that mends it is for: all its places where it is the same action."""
    plans = [one.plan for one in row.meant if one.plan is not None]
    alike = (plan for plan in plans if plan.action == plans[0].action)
    return tuple(dict.fromkeys(target for plan in alike for target in plan.targets))


def _told(label: str, text: str, width: int, palette: Palette) -> list[Text]:
    drawn = []
    for number, part in enumerate(wrap(text, max(10, width - 8))):
        told = piece(f" {'' if number else label:<6}", palette["dim"])
        told.append(part, palette["text"])
        drawn.append(told)
    return drawn

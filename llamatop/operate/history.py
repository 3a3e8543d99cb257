"""What the audit log knows of the last membership change of a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from .files import Member


class Change(Struct, frozen=True):
    """What a plan left behind: each server line that it changed, and whether it is down since.

    `at` is RFC 3339 UTC; `title` is the plan's own. `texts` have each server line as
    it stood before, by how it was left.
    """

    at: str
    who: str
    title: str
    members: dict[Member, bool]
    texts: dict[Member, dict[str, str]] = field(default_factory=dict)


class _Entry(Struct):
    """One plan as its lines in the log tell it."""

    at: str
    who: str
    title: str
    steps: list[dict[str, Any]]
    ended: bool = False
    states: dict[int, str] = field(default_factory=dict)
    put_back: set[Member] = field(default_factory=set)

    def change(self) -> Change:
        """Its net effect: a line that is as it was before is left out."""
        first: dict[Member, bool] = {}
        last: dict[Member, bool] = {}
        stood: dict[Member, list[str]] = {}
        stands: dict[Member, list[str]] = {}
        for number, step in enumerate(self.steps, 1):
            state = self.states.get(number)
            if state is None and not self.ended:
                # Killed in the middle of this step, which may have been done on the node.
                state = "done"
            for edit in step.get("edits") or () if state in ("done", "undone") else ():
                for address in edit["addresses"]:
                    member = (edit["upstream"], address)
                    lines = [line for line in edit.get("lines") or () if line[0] == address]
                    if lines and all(before == after for _, before, after in lines):
                        continue
                    first.setdefault(member, edit["down"])
                    last[member] = edit["down"]
                    stood.setdefault(member, [str(before) for _, before, _ in lines])
                    stands[member] = [str(after) for _, _, after in lines]
            if number not in self.states:
                break
        for member in self.put_back:
            if member in last:
                last[member] = False
        kept = {member: down for member, down in last.items() if down == first[member]}
        texts = {member: dict(zip(stands[member], stood[member], strict=False)) for member in kept}
        return Change(self.at, self.who, self.title, kept, texts)


def last_change(path: Path, cluster: str) -> Change | None:
    """The newest plan of the cluster that left a server line other than it found it.

    None where there is none. Raises OSError where the log cannot be read; a line that is broken is
    passed over.
    """
    entries: dict[str, _Entry] = {}
    found: Change | None = None
    order: list[str] = []
    for line in _lines(path):
        identity, event = str(line.get("id")), line.get("event")
        if event == "plan" and line.get("cluster") == cluster:
            plan = line["plan"]
            title = " ".join((plan["action"], *plan["targets"]))
            title += f" ({plan['reason']})" if plan.get("reason") else ""
            entries[identity] = _Entry(
                str(line.get("at")), str(line.get("who")), title, plan["steps"]
            )
            order.append(identity)
        elif event == "step" and identity in entries:
            entry = entries[identity]
            entry.states.setdefault(line["number"], line["state"])
            if line["state"] == "undone":
                entry.states[line["number"]] = "undone"
                entry.put_back.update((name, address) for name, address in line["members"])
        elif event == "end" and identity in entries:
            entries[identity].ended = True
    for identity in reversed(order):
        found = entries[identity].change()
        if found.members:
            return found
    return None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line
    except FileNotFoundError:
        return

"""One table of a cluster file being read: typed values out, problems with their lines noted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from llamatop.errors import Problem

from .checks import Fault, shown
from .positions import Path as Place

WORDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text in quotes",
    list: "a list",
    dict: "a table",
}


class Notes(Struct):
    """The problems found so far, and where each key stands."""

    file: str
    lines: Mapping[Place, int]
    problems: list[Problem] = field(default_factory=list)

    def add(self, place: Place, text: str, nearest: str | None = None) -> None:
        """Note a problem; a key that is missing stands on the line of its table."""
        line = next(
            (self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines),
            None,
        )
        self.problems.append(Problem(self.file, line, spelled(place), text, nearest))

    def sorted(self) -> list[Problem]:
        """In file order."""
        return sorted(self.problems, key=lambda problem: problem.line or 0)


class Table:
    """A table at `place`; unknown keys are noted at once."""

    def __init__(
        self, values: Mapping[str, object], keys: Sequence[str], place: Place, notes: Notes
    ) -> None:
        self._values = values
        self._place = place
        self._notes = notes
        for key in values:
            if key not in keys:
                close = difflib.get_close_matches(key.lower(), keys, 1, 0.6)
                if key == "api_key":
                    text = "the key itself has no place in this file: name a variable instead"
                else:
                    text = f"unknown key; known here: {', '.join(keys)}"
                self.note(key, text, close[0] if close else None)

    def note(self, key: str | None, text: str, nearest: str | None = None) -> None:
        """Note a problem with a key, or with the table itself."""
        self._notes.add(self._place if key is None else (*self._place, key), text, nearest)

    def place(self, key: str) -> Place:
        """Where a key of this table is."""
        return (*self._place, key)

    def has(self, key: str) -> bool:
        """Whether it is written, right or wrong."""
        return key in self._values

    def empty(self, key: str) -> bool:
        """Whether it is a list with nothing in it."""
        return self._values.get(key) == []

    def text(self, key: str, fault: Fault) -> str | None:
        """A string that passes `fault`; None where it is absent or wrong."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.note(key, f"must be text in quotes, not {kind_of(value)}")
            return None
        complaint = fault(value)
        if complaint:
            self.note(key, complaint)
            return None
        return value

    def required(self, key: str, fault: Fault, why: str) -> str | None:
        """A string that must be there."""
        if key not in self._values:
            self.note(None, f"{key} is missing: {why}")
            return None
        return self.text(key, fault)

    def number(self, key: str, fault: Callable[[float], str | None]) -> float | None:
        """A number that passes `fault`."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.note(key, f"must be a number, not {kind_of(value)}")
            return None
        complaint = fault(value)
        if complaint:
            self.note(key, complaint)
            return None
        return float(value)

    def texts(self, key: str, fault: Fault) -> tuple[str, ...]:
        """A list of strings, each passing `fault`."""
        value = self._values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            hint = f": write [{shown(value)}]" if isinstance(value, str) else ""
            self.note(key, f"must be a list, not {kind_of(value)}{hint}")
            return ()
        good: list[str] = []
        for number, item in enumerate(value):
            place = (*self._place, key, number)
            if not isinstance(item, str):
                self._notes.add(place, f"must be text in quotes, not {kind_of(item)}")
            elif complaint := fault(item):
                self._notes.add(place, complaint)
            else:
                good.append(item)
        return tuple(good)

    def table(self, key: str, keys: Sequence[str]) -> Table | None:
        """A table inside."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.note(key, f"must be one table [{key}], not {kind_of(value)}")
            return None
        return Table(value, keys, (*self._place, key), self._notes)

    def tables(self, key: str, keys: Sequence[str]) -> list[Table]:
        """An array of tables inside."""
        value = self._values.get(key)
        if value is None:
            return []
        header = ".".join(str(part) for part in (*self._place, key) if isinstance(part, str))
        if not isinstance(value, list):
            self.note(key, f"must be written [[{header}]], not as {kind_of(value)}")
            return []
        found: list[Table] = []
        for number, item in enumerate(value):
            place = (*self._place, key, number)
            if isinstance(item, dict):
                found.append(Table(item, keys, place, self._notes))
            else:
                self._notes.add(place, f"must be a table [[{header}]], not {kind_of(item)}")
        return found


def kind_of(value: object) -> str:
    """What a value is, in the file's terms."""
    for kind, words in WORDS.items():
        if isinstance(value, kind):
            return words
    return "a date or time"


def spelled(place: Place) -> str:
    """A path as people write it, tables counted from 1: `node[2].worker[1].unit`."""
    words = ""
    for part in place:
        if isinstance(part, int):
            words += f"[{part + 1}]"
        else:
            shown_part = part if part.isprintable() else repr(part)
            words += f".{shown_part}" if words else shown_part
    return words if len(words) <= 120 else words[:119] + "…"

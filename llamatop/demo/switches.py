"""The file that says which faults are on: a kind a line, those behind a # are off.

The demo reads it again whenever it changes; whoever may write it brings faults on and takes them
back: a person with an editor, the dashboard's key, a test.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from llamatop import files

from .kinds import KINDS

NAME = "faults"
_HEAD = "# Take the # away to bring a fault on, put it back to end it; the demo sees it at once.\n"


class Switch(Struct, frozen=True):
    """One kind of fault that this cluster can have, and whether it is on."""

    kind: str
    about: str
    on: bool


class Switches:
    """The switches of the demo whose files lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    def listed(self) -> list[Switch]:
        """All of them in their order; none where the demo has ended."""
        try:
            text = self.path.read_text(errors="replace")
        except OSError:
            return []
        found = {}
        for line in text.splitlines():
            bare = line.lstrip("# \t")
            kind = bare.split(None, 1)[0] if bare.strip() else ""
            if kind in KINDS and kind not in found:
                found[kind] = Switch(kind, KINDS[kind], on=bare == line.strip())
        return list(found.values())

    def write(self, kinds: Collection[str], on: Collection[str]) -> None:
        """Replace the file in one step."""
        width = max(map(len, KINDS))
        lines = [
            f"{'' if kind in on else '# '}{kind:{width}}  {KINDS[kind]}\n"
            for kind in KINDS
            if kind in kinds
        ]
        files.replace(self.path, _HEAD + "\n" + "".join(lines), 0o644)

    def turn(self, kind: str) -> None:
        """Bring the fault on, or take it back; raises OSError where the demo has ended."""
        listed = self.listed()
        if not listed:
            raise FileNotFoundError(f"{self.path}: the demo has ended")
        on = {switch.kind for switch in listed if switch.on} ^ {kind}
        self.write([switch.kind for switch in listed], on)

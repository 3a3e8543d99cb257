"""The list of what is wrong: a cursor, folds, a filter; lines keep their place while one reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace
from rich.text import Text
from textual import events
from textual.binding import BindingType

from llamatop.app.messages import RowOpened, RowSelected
from llamatop.app.render import advice as render
from llamatop.app.render.advice import AdviceRow, Entry
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import CURSOR_KEYS, Lines


class FindingList(Lines, can_focus=True):
    """What is mended stays where it was, marked so, until the screen is left."""

    BINDINGS: ClassVar[list[BindingType]] = CURSOR_KEYS

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self.entries: list[Entry] = []
        self.needle = ""
        self.waiting = True
        self._rows: list[AdviceRow] = []
        self._unfolded: set[tuple[str, ...]] = set()
        self._cursor = 0

    def take(self, found: Sequence[Entry]) -> None:
        """The latest look: new entries come where they belong, mended ones stay where they are."""
        told = {entry.key for entry in found if entry.told}
        fresh = {entry.key: entry for entry in found if not entry.told}
        kept = [
            fresh.pop(entry.key) if entry.key in fresh else replace(entry, gone=True)
            for entry in self.entries
            if entry.key not in told
        ]
        for entry in fresh.values():
            place = next(
                (at for at, other in enumerate(kept) if other.rank > entry.rank), len(kept)
            )
            kept.insert(place, entry)
        self.entries = kept
        self._arrange()

    def filter(self, needle: str) -> None:
        """Show only what says all these words."""
        self.needle = needle.strip()
        self._arrange()

    def selected(self) -> AdviceRow | None:
        """What the cursor is on."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def listed(self) -> int:
        """How many entries the filter leaves."""
        return sum(row.finding is None for row in self._rows)

    def count(self) -> int:
        """One a row; one to say that there is none."""
        return max(1, len(self._rows))

    def line(self, place: int, width: int) -> Text:
        """The row at `place`."""
        if not self._rows:
            if self.entries:
                return piece("   nothing matches; esc clears", self.palette["event.warning"])
            if self.waiting:
                return piece("   looking…", self.palette["dim"])
            return piece("   ✓ nothing found", self.palette["health.good"])
        return render.line(self._rows[place], width, self.palette, place == self._cursor)

    def toggle(self) -> bool:
        """Unfold or fold the entry under the cursor; False where it has one place."""
        row = self.selected()
        if row is None or row.finding is not None or len(row.entry.places) < 2:
            return False
        self._fold(row, row.entry.key in self._unfolded)
        return True

    def action_fold(self, folded: bool) -> None:
        """Fold or unfold the entry that the cursor is on or in."""
        row = self.selected()
        if row is not None:
            self._fold(row, folded)

    def _fold(self, row: AdviceRow, folded: bool) -> None:
        if folded:
            self._unfolded.discard(row.entry.key)
        elif len(row.entry.places) > 1:
            self._unfolded.add(row.entry.key)
        self._arrange()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by a screenful."""
        self._go(self._cursor + by * max(1, self.size.height - 1))

    def action_edge(self, last: int) -> None:
        """Move the cursor to the first or the last row."""
        self._go(len(self._rows) - 1 if last else 0)

    def on_click(self, event: events.Click) -> None:
        """A click selects, on `+` or `−` it folds; a click on what is selected opens it."""
        place = self._place(event.y, 0)
        if not 0 <= place < len(self._rows):
            return
        again = place == self._cursor
        self._go(place)
        if event.x < 3:
            self.toggle()
        elif again:
            self.post_message(RowOpened())

    def _arrange(self) -> None:
        """Rows from entries; the cursor stays on what it was on, at the same height."""
        row, before = self.selected(), self._cursor
        rows: list[AdviceRow] = []
        for entry in self.entries:
            if self.needle and not entry.says(self.needle):
                continue
            unfolded = entry.key in self._unfolded and len(entry.findings) > 1
            rows.append(AdviceRow(entry, unfolded=unfolded))
            if unfolded:
                rows += render.unfolded(entry)
        self._rows = rows
        place = before
        if row is not None:
            keys = [one.key for one in rows]
            alike = (row.key, (*row.entry.key, ""))
            place = next((keys.index(key) for key in alike if key in keys), before)
        self.measure()
        if place != before:
            self.scroll_to(y=self.scroll_y + place - before, animate=False, immediate=True)
        self._go(place)
        self.redraw()

    def _go(self, place: int) -> None:
        before = self._cursor
        self._cursor = max(0, min(len(self._rows) - 1, place))
        visible, top = max(1, self.size.height), round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, immediate=True)
        self.repaint(before, self._cursor)
        self.post_message(RowSelected(None))

"""A journal's lines: wrapped, following the newest, searchable."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from operator import itemgetter

from rich.cells import cell_len, chop_cells
from rich.text import Text

from llamatop.app.messages import JournalArrived
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, piece
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import Source
from llamatop.errors import LlamatopError
from llamatop.model.text import plain

KEPT_LINES = 5000
_SLACK_LINES = 1000
# A cursor that runs down the table opens no journal on its way.
PATIENCE_SECONDS = 0.2
# As journalctl -o short-iso writes: time, host, program[pid], message.
_PREFIX = re.compile(r"\d{4}-(\d\d-\d\d)T(\d\d:\d\d:\d\d)\S* \S+ ([^\s:\[]+)(?:\[\d+\])?: (.*)")
# As llama-server writes by itself: time since its start, level, message.
_OWN = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} ([A-Z]) (.*)")
_SLOT = re.compile(r"slot +\w+: id +(\d+) \| task -?\d+ \| ")
_LEVELS = {"W": ("▲ ", "event.warning"), "E": ("✗ ", "event.error")}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT|\d\d-\d\d )?\d\d:\d\d:\d\d\S*")


class JournalView(Lines, can_focus=True):
    """Stays at the end while `follow` is on; what has scrolled past stays for the search.

    Without `follow` it stands still: what comes meanwhile is held back, the newest of it. A `brief`
    one gives each entry one line, without what llama-server writes before the words.
    """

    heading_words: str | None = "journal"
    backlog = 200
    dated = False
    brief = False

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        # Entries are counted from the first that ever came; `_first` is the oldest one kept.
        self._first = 0
        self._entries: list[str] = []
        self._lines: list[tuple[int, str]] = []
        self._held: deque[str] = deque(maxlen=KEPT_LINES)
        self._width = 0
        self._follow = True
        self.held_count = 0
        self.fault: str | None = None
        self.needle = ""
        self.hit: int | None = None
        self._unit: str | None = None

    @property
    def follow(self) -> bool:
        """Whether it goes on to the newest line."""
        return self._follow

    @follow.setter
    def follow(self, follow: bool) -> None:
        self._follow = follow
        if follow and self._held:
            held = list(self._held)
            self._held.clear()
            self.held_count = 0
            self._take(held)
            self.redraw()
            # Not at once: it may be the scrolling itself that got here.
            self.call_later(self._to_end)

    def watch_unit(self, source: Source | None, name: str | None) -> None:
        """Follow the journal of `name` (`node/short` or `node/UNIT`); None stops."""
        if source is None:
            name = None
        if name == self._unit:
            return
        self._unit = name
        self.restart()
        if source is not None and name is not None:
            self.run_worker(self._read(source, name), group="journal", exclusive=True)
        else:
            self.workers.cancel_group(self, "journal")

    async def _read(self, source: Source, name: str) -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        waiting: list[str] = []

        def flush(fault: str | None = None) -> None:
            self.post_message(JournalArrived(name, tuple(waiting), fault))
            waiting.clear()

        try:
            async for entry in source.journal(name, self.backlog, True):
                if not waiting:
                    # Entries that are there already arrive as one message.
                    asyncio.get_running_loop().call_later(0.03, flush)
                waiting.append(entry)
        except LlamatopError as error:
            flush(str(error))
            return
        flush("ended")

    def on_journal_arrived(self, message: JournalArrived) -> None:
        """Take what was read, unless another journal was asked for meanwhile."""
        if message.worker == self._unit:
            self.add(message.lines, message.fault)

    def restart(self) -> None:
        """Forget what another worker wrote."""
        self._held.clear()
        self.held_count = self._first = 0
        self._entries.clear()
        self._lines.clear()
        self.fault = None
        self.hit = None
        self.follow = True
        self.redraw()

    def add(self, entries: Iterable[str], fault: str | None = None) -> None:
        """Append entries; `fault` is why no more will come."""
        self.fault = fault or self.fault
        if self.follow or not self._entries:
            self._take(list(entries))
            self.redraw()
            self._to_end()
        else:
            held = list(entries)
            self._held.extend(held)
            self.held_count += len(held)

    def _take(self, entries: list[str]) -> None:
        """Append the newest of the entries, and forget the oldest where they are too many."""
        for entry in entries[-KEPT_LINES:]:
            self._entries.append(self._short(plain(entry.replace("\t", "    "))))
            self._wrap(self._first + len(self._entries) - 1)
        surplus = len(self._entries) - KEPT_LINES
        if surplus > _SLACK_LINES:
            del self._entries[:surplus]
            self._first += surplus
            del self._lines[: bisect_left(self._lines, self._first, key=itemgetter(0))]
            if self.hit is not None and self.hit < self._first:
                self.hit = None

    def entry_count(self) -> int:
        """How many entries are kept, those held back among them."""
        return len(self._entries) + len(self._held)

    def search(self, needle: str) -> int:
        """Look for `needle` without regard to case; shows the newest hit, returns how many."""
        self.needle = needle
        self.hit = None
        hits = self._hits()
        if hits:
            self._show_hit(hits[-1])
        self.forget()
        return len(hits)

    def next_hit(self, by: int) -> None:
        """Show the next hit, or the one before; goes round at the ends."""
        hits = self._hits()
        if not hits:
            return
        place = hits.index(self.hit) if self.hit in hits else 0
        self._show_hit(hits[(place + by) % len(hits)])
        self.forget()

    def sticky(self) -> list[Text]:
        """A heading that says where it stands."""
        if self.heading_words is None or self._unit is None:
            return []
        text = piece(f" {self.heading_words}", self.palette["key" if self.has_focus else "heading"])
        if self.fault:
            text.append(f"  ✗ {plain(self.fault)}", self.palette["event.error"])
        elif not self._entries:
            text.append("  reading…", self.palette["faint"])
        return [Text(), text]

    def count(self) -> int:
        """One a wrapped line."""
        return len(self._lines)

    def line(self, place: int, width: int) -> Text:
        """One line; the time of an entry is faint, a hit is marked."""
        entry, words = self._lines[place]
        first = place == 0 or self._lines[place - 1][0] != entry
        current = entry == self.hit
        text = piece("▸" if current and first else " ", self.palette["key"])
        text.append(words, self.palette["text" if current else "dim"])
        time = _TIME.match(words) if first else None
        if time is not None:
            text.stylize(self.palette["faint"], 1, 1 + time.end())
            for mark, role in _LEVELS.values():
                if self.brief and words.startswith(mark, time.end() + 1):
                    text.stylize(self.palette[role], 2 + time.end())
        if self.needle:
            text.highlight_words([self.needle], self.palette["match"], case_sensitive=False)
        return text

    def on_resize(self) -> None:
        """Lines are wrapped for a width."""
        if self.size.width != self._width:
            self._rewrap()
        super().on_resize()
        self._to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Reaching the end starts following again."""
        super().watch_scroll_y(old_value, new_value)
        if new_value > old_value and new_value >= self.max_scroll_y:
            self.follow = True

    def on_mouse_scroll_up(self) -> None:
        """Looking back stops following."""
        self.follow = False

    def action_scroll_up(self) -> None:
        """Looking back stops following."""
        self.follow = False
        super().action_scroll_up()

    def action_page_up(self) -> None:
        """Looking back stops following."""
        self.follow = False
        super().action_page_up()

    def action_scroll_home(self) -> None:
        """Looking back stops following."""
        self.follow = False
        super().action_scroll_home()

    def _to_end(self) -> None:
        # Now and by force: the scrollbar that allows it is there only after the next layout.
        if self.follow:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True, immediate=True)

    def _rewrap(self) -> None:
        self._width = self.size.width
        self._lines.clear()
        for place in range(len(self._entries)):
            self._wrap(self._first + place)

    def _short(self, entry: str) -> str:
        found = _PREFIX.match(entry)
        if found is None:
            return entry
        day, time, program, rest = found.groups()
        when = f"{day} {time}" if self.dated else time
        if self.brief:
            own = _OWN.match(rest)
            rest = _LEVELS.get(own[1], ("", ""))[0] + own[2] if own else rest
            rest = _SLOT.sub(r"slot \1: ", " ".join(rest.split()))
        return f"{when} {rest}" if program != "systemd" else f"{when} systemd: {rest}"

    def _wrap(self, entry: int) -> None:
        words = self._entries[entry - self._first]
        width = max(10, self.drawn_width - 2)
        if self.brief:
            self._lines.append((entry, fit(words, width).rstrip()))
            return
        parts = chop_cells(words, width) if cell_len(words) > width else [words]
        self._lines += [(entry, part) for part in parts]

    def _hits(self) -> list[int]:
        needle = self.needle.lower()
        if not needle:
            return []
        return [
            place
            for place, words in enumerate(self._entries, self._first)
            if needle in words.lower()
        ]

    def _show_hit(self, entry: int) -> None:
        self.hit = entry
        self.follow = False
        line = bisect_left(self._lines, entry, key=itemgetter(0))
        self.scroll_to(y=max(0, line - self.size.height // 2), animate=False)

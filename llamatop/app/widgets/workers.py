"""The table of workers, tunnels and nginx: a cursor, marks, a filter, an order."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType

from llamatop.app.messages import RowOpened, RowSelected
from llamatop.app.render import workers as render
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.rows import SORTS, Row, arrange, rows
from llamatop.app.widgets.lines import Lines
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.text import plain


class WorkerTable(Lines, can_focus=True):
    """Keeps the cursor on a worker by its name, wherever sorting and filtering move it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("pagedown,ctrl+f", "page(1)", show=False),
        Binding("pageup,ctrl+b", "page(-1)", show=False),
        Binding("home,g", "edge(0)", show=False),
        Binding("end,G,shift+g", "edge(1)", show=False),
    ]

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._all: list[Row] = []
        self._shown: list[Row] = []
        self._columns: tuple[int, list[render.Column]] | None = None
        self._now: datetime | None = None
        self._cursor = 0
        self.selected_name: str | None = None
        self.marked: set[str] = set()
        self.needle = ""
        self.sort = next(iter(SORTS))
        self.spaced = True
        self.waiting = True
        self.blind = False
        self._moved = False

    def show(self, snapshot: ClusterSnapshot) -> None:
        """Take the latest workers; the cursor and the marks stay with their names."""
        self.waiting = snapshot.tick == 0
        self.blind = not any(node.reachable for node in snapshot.nodes)
        self._all = rows(snapshot)
        self._now = snapshot.taken_at
        self.marked &= {row.name for row in self._all}
        self._arrange()

    def filter(self, needle: str) -> None:
        """Show only the rows that match; what it found stays selected when it is cleared."""
        self.needle = needle
        self._moved = self._moved or bool(needle)
        self._arrange()

    def next_sort(self) -> str:
        """Sort by the next order; returns its name."""
        orders = list(SORTS)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]
        self._arrange()
        return self.sort

    def mark(self) -> None:
        """Mark or unmark the row under the cursor and go to the next."""
        if self.selected_name is not None:
            self._moved = True
            self.marked ^= {self.selected_name}
            self.action_move(1)
            self.redraw()

    def unmark(self) -> bool:
        """Take all marks away; False where there was none."""
        had, self.marked = bool(self.marked), set()
        self.redraw()
        return had

    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self._cursor] if self._cursor < len(self._shown) else None

    def targets(self) -> list[str]:
        """What an action is meant for: the marked rows in order, else the one under the cursor."""
        if self.marked:
            return [row.name for row in self._all if row.name in self.marked]
        row = self.selected()
        return [row.name] if row else []

    def total(self) -> int:
        """How many rows there are without a filter."""
        return len(self._all)

    def count(self) -> int:
        """One a row."""
        return len(self._shown)

    def sticky(self) -> list[Text]:
        """The heading with count, order, marks and filter; the column titles."""
        width = self.drawn_width
        titles = render.titles(self._fit(width), width, self.palette) if self._all else Text()
        return [Text()] * self.spaced + [self._heading(), titles]

    def line(self, place: int, width: int) -> Text:
        """The row at `place`."""
        row = self._shown[place]
        if self._now is None:
            return Text()
        return render.line(
            row,
            self._fit(width),
            width,
            self.palette,
            self._now,
            selected=place == self._cursor,
            marked=row.name in self.marked,
        )

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._moved = True
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by a screenful."""
        self._moved = True
        self._go(self._cursor + by * max(1, self.size.height - self._top_lines() - 1))

    def action_edge(self, last: int) -> None:
        """Move the cursor to the first or the last row."""
        self._moved = True
        self._go(len(self._shown) - 1 if last else 0)

    def on_click(self, event: events.Click) -> None:
        """A click selects, a click on what is selected opens it."""
        place = self._place(event.y, self._top_lines())
        if not 0 <= place < len(self._shown):
            return
        self._moved = True
        if place == self._cursor:
            self.post_message(RowOpened())
        else:
            self._go(place)

    def on_focus(self) -> None:
        """The heading shows where the keys go."""
        self.redraw()

    def on_blur(self) -> None:
        """The heading shows where the keys go."""
        self.redraw()

    def _go(self, place: int) -> None:
        place = max(0, min(len(self._shown) - 1, place))
        name = self._shown[place].name if self._shown else None
        changed = name != self.selected_name
        self._cursor, self.selected_name = place, name
        self._keep_in_view()
        self.redraw()
        if changed:
            self.post_message(RowSelected(name))

    def _arrange(self) -> None:
        self._shown = arrange(self._all, self.needle, self.sort)
        self._columns = None
        names = [row.name for row in self._shown]
        place = self._cursor
        if not self._moved:
            # Workers arrive as their nodes answer; the cursor waits on the first until it is moved.
            place = 0
        elif self.selected_name in names:
            place = names.index(self.selected_name)
        self._go(place)

    def _keep_in_view(self) -> None:
        visible = max(1, self.size.height - self._top_lines())
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False)

    def _fit(self, width: int) -> list[render.Column]:
        if self._columns is None or self._columns[0] != width:
            self._columns = (width, render.columns(self._shown, width))
        return self._columns[1]

    def _heading(self) -> Text:
        palette = self.palette
        text = piece(" workers", palette["key" if self.has_focus else "heading"])
        shown, total = len(self._shown), len(self._all)
        if not total and self.waiting:
            text.append("  looking for them…", palette["faint"])
            return text
        if not total:
            words = (
                "no node answers" if self.blind else "no llama-server, Ollama or vLLM unit found"
            )
            text.append(f"  {words}", palette["faint"])
            return text
        parts = [str(total) if shown == total else f"{shown} of {total}", f"by {self.sort}"]
        text.append("  " + " · ".join(parts), palette["faint"])
        if self.marked:
            text.append(f" · ◆ {len(self.marked)} marked", palette["marked"])
        if self.needle:
            text.append(" · ", palette["faint"])
            text.append(f"/{plain(self.needle)}", palette["match"])
        if total and not shown:
            text.append("  nothing matches; esc clears", palette["event.warning"])
        return text

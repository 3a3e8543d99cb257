"""The table of nodes and their workers: a cursor, marks, a filter, an order, folds."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType

from llamatop.app.folds import Folds, too_many, tree
from llamatop.app.messages import Folded, RowOpened, RowSelected
from llamatop.app.needle import select, select_empty
from llamatop.app.nodes import Line, NodeRow, arrange_nodes, by_node, filtered, whole_node
from llamatop.app.render import columns as layout
from llamatop.app.render import nodes as render_nodes
from llamatop.app.render import workers as render
from llamatop.app.render.heading import heading
from llamatop.app.render.palette import Palette
from llamatop.app.rows import SORTS, Row, arrange, rows
from llamatop.app.widgets.lines import CURSOR_KEYS, Lines
from llamatop.model.cluster import ClusterSnapshot

# A line's name, whether it is selected, marked, and folded or (None) among others' rows.
_Key = tuple[str, bool, bool, bool | None]


class WorkerTable(Lines, can_focus=True):
    """Keeps the cursor on a worker or node by its name, wherever it is moved.

    Nodes have lines of their own where there are too many workers, or one of them is folded.
    A filter lists what it finds without its nodes, until they are folded there.
    """

    BINDINGS: ClassVar[list[BindingType]] = CURSOR_KEYS

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._all: list[Row] = []
        self._node_rows: list[NodeRow] = []
        self._shown: list[Line] = []
        self._columns: tuple[int, list[layout.Column]] | None = None
        # What was made since the last tick: folding and moving only put it elsewhere.
        self._made: dict[_Key, Text] = {}
        self._made_for: tuple[int, list[layout.Column]] | None = None
        self._now: datetime | None = None
        self._cursor = 0
        self._folds = Folds()
        self._found_folds = Folds()
        self.by_node = False
        self.large = False
        self.selected_name: str | None = None
        self._selected_node: str | None = None
        self._listed = 0
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
        self._node_rows = by_node(snapshot, self._all)
        self._made.clear()
        self._now = snapshot.taken_at
        if self.marked:
            self.marked &= {line.name for line in self._lines()}
        self._arrange()

    def wanted(self) -> int:
        """How many rows there are with nothing folded; a node without any counts as one."""
        return sum(max(1, len(node.rows)) for node in self._node_rows)

    def suit(self, visible: int) -> None:
        """Fold the nodes where `visible` lines are too few; heard until the person folds."""
        large = too_many(len(self._node_rows), self.wanted(), visible)
        if large != self.large:
            self.large = large
            self._folds.suggest(large)
            self._arrange()

    def filter(self, needle: str) -> None:
        """Show only the rows that match; what it found stays selected when it is cleared."""
        if not needle.strip():
            self._found_folds = Folds()
        self._made.clear()
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
        """Mark or unmark the line under the cursor and go to the next."""
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

    def selected(self) -> Line | None:
        """What is under the cursor."""
        return self._shown[self._cursor] if self._cursor < len(self._shown) else None

    def targets(self) -> list[str]:
        """What an action is meant for: what is marked, in order, else what the cursor is on.

        A node stands for all its workers; where a filter is on, for those that it leaves.
        """
        if self.marked:
            marked = [line for line in self._lines() if line.name in self.marked]
            return [name for line in marked for name in self._meant(line)]
        row = self.selected()
        return self._meant(row) if row is not None else []

    def _lines(self) -> list[Line]:
        """All there is to mark; of a node only what the filter leaves is meant."""
        needle = self.needle.strip()
        nodes = filtered(self._node_rows, select(self._all, needle)) if needle else []
        meant = {node.name: node for node in nodes}
        return [*(meant.get(node.name, node) for node in self._node_rows), *self._all]

    def _meant(self, row: Line) -> list[str]:
        if isinstance(row, NodeRow) and len(row.listed) < len(row.rows):
            return [one.name for one in row.listed if one.worker is not None]
        return [row.name]

    def total(self) -> int:
        """How many rows there are without a filter, nodes not counted."""
        return len(self._all)

    def order(self) -> list[NodeRow]:
        """All nodes in the order of the table."""
        return arrange_nodes(self._node_rows, self.sort)

    def count(self) -> int:
        """One a row."""
        return len(self._shown)

    def sticky(self) -> list[Text]:
        """The heading with count, order, marks and filter; the column titles."""
        width = self.drawn_width
        gutter = layout.NODE_GUTTER if self.by_node else layout.GUTTER
        titles = Text()
        if self._shown or self._all:
            titles = layout.titles(self._fit(width), width, self.palette, gutter)
        return [Text()] * self.spaced + [self._heading(), titles]

    def line(self, place: int, width: int) -> Text:
        """The row at `place`."""
        row = self._shown[place]
        if self._now is None:
            return Text()
        kept = self._fit(width)
        selected = place == self._cursor
        marked = bool(self.marked) and (
            row.name in self.marked or whole_node(row.node) in self.marked
        )
        folded = self.folds.folded(row.node) if self.by_node else None
        key = (row.name, selected, marked, folded)
        text = self._made.get(key)
        if text is None:
            text = self._made[key] = self._line(row, kept, width, key)
        return text

    def _line(self, row: Line, kept: list[layout.Column], width: int, key: _Key) -> Text:
        _, selected, marked, folded = key
        palette, now = self.palette, self._now
        if isinstance(row, NodeRow):
            return render_nodes.line(
                row, kept, width, palette, folded=folded, selected=selected, marked=marked
            )
        assert now is not None
        below = self.by_node
        return render.line(
            row, kept, width, palette, now, selected=selected, marked=marked, below_node=below
        )

    def forget(self) -> None:
        """Lines are made in other colours."""
        self._made.clear()
        super().forget()

    @property
    def folds(self) -> Folds:
        """Which nodes are folded: apart where a filter is on."""
        return self._found_folds if self.needle.strip() else self._folds

    def action_fold(self, folded: bool) -> None:
        """Fold or unfold the node that the cursor is on or in."""
        row = self.selected()
        if row is not None and len(self._node_rows) > 1:
            self._moved = True
            self.folds.fold(row.node, folded)
            self._arrange()
            self.post_message(Folded())

    def fold_all(self) -> None:
        """Fold all nodes, or unfold them where all are folded."""
        self._moved = True
        names = [node.node for node in self._node_rows]
        self.folds.fold_all(not all(map(self.folds.folded, names)))
        self._arrange()
        self.post_message(Folded())

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
        """A click selects, on `+` or `−` it folds; a click on what is selected opens it."""
        place = self._place(event.y, self._top_lines())
        if not 0 <= place < len(self._shown):
            return
        self._moved = True
        row = self._shown[place]
        if isinstance(row, NodeRow) and event.x < layout.NODE_GUTTER:
            self._go(place)
            self.action_fold(not self.folds.folded(row.node))
        elif place == self._cursor:
            self.post_message(RowOpened())
        else:
            self._go(place)

    def select_node(self, node: str) -> None:
        """Put the cursor on the node, or on the first of its workers."""
        self._moved = True
        self._go(next((i for i, row in enumerate(self._shown) if row.node == node), self._cursor))

    def on_focus(self) -> None:
        """The heading shows where the keys go."""
        self.redraw()

    on_blur = on_focus

    def _go(self, place: int) -> None:
        place = max(0, min(len(self._shown) - 1, place))
        row = self._shown[place] if self._shown else None
        name = row.name if row is not None else None
        changed, before = name != self.selected_name, self._cursor
        self._cursor, self.selected_name = place, name
        self._selected_node = row.node if row is not None else None
        self._keep_in_view()
        self.repaint(before, place)
        if changed:
            self.post_message(RowSelected(name))

    def _arrange(self) -> None:
        needle, nodes = self.needle.strip(), self._node_rows
        listed = self._all
        if needle:
            listed = select(listed, needle)
            nodes = [*filtered(nodes, listed), *select_empty(nodes, needle)]
        self.by_node = self.folds.any(node.node for node in nodes) or (self.large and not needle)
        if self.by_node:
            self._shown = tree(nodes, self.folds, self.sort)
        else:
            empty = [node for node in nodes if not node.rows] if needle else []
            self._shown = [*arrange(listed, self.sort), *empty]
        self._listed = len(listed)
        self._columns = None
        self.measure()
        self._go(self._where() if self._moved else 0)

    def _where(self) -> int:
        """Where the cursor's worker or node is now; a folded worker is where its node is."""
        near = None
        for place, row in enumerate(self._shown):
            if row.name == self.selected_name:
                return place
            if near is None and row.node == self._selected_node:
                near = place
        # What a filter hides keeps the cursor where it was.
        return near if near is not None and not self.needle.strip() else self._cursor

    def _keep_in_view(self) -> None:
        visible = max(1, self.size.height - self._top_lines())
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, immediate=True)

    def _fit(self, width: int) -> list[layout.Column]:
        if self._columns is None or self._columns[0] != width:
            if self.by_node:
                nodes = [row for row in self._shown if isinstance(row, NodeRow)]
                kept = layout.node_columns(nodes, width)
            else:
                kept = layout.columns(self._shown, width)
            self._columns = (width, kept)
            if self._columns != self._made_for:
                self._made.clear()
                self._made_for = self._columns
        return self._columns[1]

    def _heading(self) -> Text:
        return heading(
            self.palette,
            self.drawn_width,
            nodes=sum(isinstance(row, NodeRow) for row in self._shown) if self.by_node else None,
            shown=self._listed,
            total=len(self._all),
            sort=self.sort,
            needle=self.needle,
            marked=len(self.marked),
            nothing=not self._shown,
            why="" if self._all else self._why_none(),
            focused=self.has_focus,
        )

    def _why_none(self) -> str:
        if self.waiting:
            return "looking for them…"
        return "no node answers" if self.blind else "no llama-server, Ollama or vLLM unit found"

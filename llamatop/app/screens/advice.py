"""Advice: what is wrong now and what makes the cluster slow or fragile, with the mend."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input

from llamatop.advise.doctor import Places
from llamatop.app.messages import RowOpened, RowSelected
from llamatop.app.nodes import whole_node
from llamatop.app.render import advice as render
from llamatop.app.render.alerts import alerts
from llamatop.app.render.layout import SPACED
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.filter import FilterBar
from llamatop.app.widgets.findings import FindingList
from llamatop.app.widgets.lines import Lines
from llamatop.app.widgets.status import StatusLine

# From here on the detail stands beside the list.
WIDE = 140


class _Told(Lines):
    """Lines that the screen gives it."""

    DEFAULT_CSS = "_Told { overflow-y: auto; }"

    made: tuple[Text, ...] = ()

    def count(self) -> int:
        return len(self.made)

    def line(self, place: int, width: int) -> Text:
        return self.made[place]

    def show(self, *made: Text) -> None:
        self.made = made
        self.redraw()


class AdviceScreen(ClusterScreen):
    """Enter goes to where it is, `f` makes the plan that mends it, `c` copies the mend."""

    DEFAULT_CSS = """
    AdviceScreen { background: $background; layout: vertical; }
    AdviceScreen .line { height: 1; overflow-y: hidden; }
    AdviceScreen Container { height: 1fr; layout: vertical; }
    AdviceScreen FindingList { height: 1fr; width: 1fr; }
    AdviceScreen Container.spaced { padding-top: 1; }
    AdviceScreen Container.wide { layout: horizontal; }
    AdviceScreen Container.wide > _Told { width: 45%; padding-left: 2; }
    AdviceScreen StatusLine { height: 1; }
    AdviceScreen FilterBar { height: 1; border: none; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "copy", show=False)]

    def __init__(self, read_only: bool) -> None:
        super().__init__(read_only)
        self._bindings.key_to_bindings.pop("a", None)
        self._bindings.bind("a", "screen.back", show=False)
        self._bindings.key_to_bindings.pop("f", None)
        if not read_only:
            self._bindings.bind("f", "screen.mend", show=False)

    def compose(self) -> ComposeResult:
        """Heading, list, detail, filter, plan, keys."""
        palette = self.top.palette
        self.heading, self.detail, self.keys = (_Told(palette) for _ in range(3))
        for told in (self.heading, self.keys):
            told.add_class("line")
        self.list = FindingList(palette, id="findings")
        self.filter = FilterBar("filter: words")
        self.status = StatusLine(palette)
        self.filter.display = self.status.display = False
        yield self.heading
        self.body = Container(self.list, self.detail)
        yield self.body
        yield self.filter
        yield self.status
        yield self.keys

    def on_mount(self) -> None:
        """The keys go to the list."""
        self.list.focus()
        self.show()
        self.show_plan()

    def on_resize(self) -> None:
        """Lines are wrapped for a width."""
        self.call_after_refresh(self._show_row)

    def show(self) -> None:
        """Draw what is wrong now, and the latest diagnosis."""
        if not self.children:
            return
        top = self.top
        diagnosis = top.judging.diagnosis
        self.list.waiting = diagnosis is None
        self.list.take(render.entries(alerts(top.snapshot, top.changing()), diagnosis))
        self._show_row()

    def _show_row(self) -> None:
        """The heading, the selected entry in full, and the keys that do something for it."""
        top, palette, row = self.top, self.top.palette, self.list.selected()
        width, height = self.size
        may = top.operator is not None and not self.read_only
        wide = width >= WIDE
        self.body.set_class(wide, "wide")
        self.body.set_class(height >= SPACED, "spaced")
        room = round(width * 0.45) - 4 if wide else width
        made = render.detail(row, room, palette, may) if row is not None else []
        self.detail.display = bool(made)
        lines = min(len(made) + 1, max(3, height // 2 - 1))
        self.detail.styles.height = "1fr" if wide else lines
        self.detail.show(*[Text()] * (not wide), *made)
        needle = self.list.needle
        diagnosis = top.judging.diagnosis
        listed = self.list.listed()
        self.heading.show(
            render.heading(self.list.entries, diagnosis, width, palette, needle, listed)
        )
        pairs = [("esc", "back"), ("enter", "open"), ("/", "filter"), ("l", "log"), ("?", "help")]
        if row is not None and row.meant:
            pairs.insert(2, ("c", "copy the mend"))
            if may and render.targets_of(row) and not row.entry.gone:
                pairs.insert(2, ("f", "mend"))
        if row is not None and may and row.entry.takes_out:
            pairs.insert(2, ("f", "take out what is dead"))
        line = Text(" ", no_wrap=True)
        for key, word in pairs:
            line.append(key, palette["key"])
            line.append(f" {word}  ", palette["dim"])
        self.keys.show(line)

    def show_plan(self) -> None:
        """The status line shows the plan while its dialog is hidden."""
        text = self.top.plan_status()
        self.status.display = text is not None
        if text is not None:
            self.status.show(text)

    def on_row_selected(self, message: RowSelected) -> None:
        """The detail follows the cursor."""
        self._show_row()

    def on_row_opened(self, message: RowOpened) -> None:
        """A click on the selected row."""
        self.action_detail()

    def targets(self) -> list[str]:
        """The workers, units or nodes of the selected line."""
        row = self.list.selected()
        if row is None:
            return []
        places = Places(self.top.snapshot)
        return list(
            dict.fromkeys(
                name for place in row.places if (name := self._named(places, place)) is not None
            )
        )

    def _named(self, places: Places, place: str) -> str | None:
        """What the dashboard calls the place: a worker, a unit beside them, or the node."""
        node = places.node(place) or places.node(place.partition(" ")[0])
        worker = places.worker(place)
        if worker is not None or node is None:
            return worker
        for unit in self.top.snapshot.node(node).snapshot.units.values():
            short = unit.name.removesuffix(".service")
            if place in (f"{node}/{short}", f"{node}:{unit.name}"):
                return f"{node}/{short}"
        return whole_node(node)

    def action_detail(self) -> None:
        """Unfold an entry of several places, else go to where it is."""
        if self.list.toggle():
            return
        targets = self.targets()
        if targets:
            self.top.open_detail(targets[0])

    def action_mend(self) -> None:
        """Make the plan that mends it, and show it."""
        row = self.list.selected()
        if row is None:
            return
        if row.entry.takes_out:
            self.top.action_take_out()
            return
        targets = render.targets_of(row)
        plan = next((one.plan for one in row.meant if one.plan is not None), None)
        if plan is None or row.entry.gone:
            self.top.say("there is no plan for this; its mend is written above")
        else:
            self.top.mend(plan.action, list(targets))

    def action_copy(self) -> None:
        """Put the mend on the clipboard of the person's terminal (OSC 52)."""
        row = self.list.selected()
        if row is not None and row.meant:
            self.top.copy_to_clipboard("\n".join(dict.fromkeys(one.mend for one in row.meant)))
            self.top.say("copied the mend")

    def action_filter(self) -> None:
        """Type a filter."""
        self.filter.display = True
        self.filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        self.list.filter(event.value)
        self._show_row()

    def on_input_submitted(self) -> None:
        """Enter keeps the filter."""
        self.action_keep_filter()

    def action_keep_filter(self) -> None:
        """Back to the list."""
        self.filter.display = False
        self.list.focus()

    def action_clear_filter(self) -> None:
        """No filter, no bar."""
        self.filter.value = ""
        self.list.filter("")
        self.action_keep_filter()
        self._show_row()

    def action_back(self) -> None:
        """Clear the filter, then leave."""
        if self.list.needle:
            self.action_clear_filter()
        else:
            self.dismiss()

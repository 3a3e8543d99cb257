"""How the cards hang together, and what the workers over them yield."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.widgets.status import KeyLine, StatusLine
from llamatop.app.widgets.topology import TopologyView


class TopologyScreen(ClusterScreen):
    """Every node drawn, the one that was selected first; `n` and `N` go from node to node."""

    DEFAULT_CSS = """
    TopologyScreen { background: $background; layout: vertical; }
    TopologyScreen TopologyView { height: 1fr; }
    TopologyScreen StatusLine, TopologyScreen KeyLine { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "step(1)", show=False),
        Binding("N,shift+n", "step(-1)", show=False),
    ]

    def __init__(self, node: str | None, read_only: bool) -> None:
        super().__init__(read_only)
        self._start = node
        self._bindings.key_to_bindings.pop("t", None)
        self._bindings.bind("t", "screen.back", show=False)

    def compose(self) -> ComposeResult:
        """The drawing and the two bottom lines."""
        palette = self.top.palette
        self.view = TopologyView(palette, id="topology")
        self.status = StatusLine(palette)
        self.status.display = False
        self.keys = KeyLine(palette)
        self.keys.read_only = True
        self.keys.left_out = frozenset(
            {"mark", "detail", "filter", "sort", "fold", "models", "log", "topology"}
        )
        yield self.view
        yield self.status
        yield self.keys

    def on_mount(self) -> None:
        """Show what is known already, from the node that was selected on."""
        self.view.focus()
        self.show()
        self.show_plan()
        self.call_after_refresh(self._go)

    def _go(self) -> None:
        if self._start is not None:
            self.view.go(self._start)

    def show(self) -> None:
        """Draw the latest snapshot."""
        if self.children:
            self.view.show(self.top.snapshot, self.top.history)

    def show_plan(self) -> None:
        """The status line shows the plan while its dialog is hidden."""
        text = self.top.plan_status()
        self.status.display = text is not None
        if text is not None:
            self.status.show(text)

    def node(self) -> str | None:
        """The one at the top of the view."""
        return self.view.at()

    def action_step(self, by: int) -> None:
        """To the next node, or the one before."""
        self.view.step(by)

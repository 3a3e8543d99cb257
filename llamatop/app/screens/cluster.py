"""What every screen that shows the live cluster has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from textual.screen import Screen

from llamatop.app.actions import bindings
from llamatop.app.nodes import Line, NodeRow, find
from llamatop.app.widgets.lines import Lines

if TYPE_CHECKING:
    from llamatop.app.app import LlamatopApp


class ClusterScreen(Screen[None]):
    """A screen that takes each new snapshot, knows what is selected, and has the cluster's keys."""

    def __init__(self, read_only: bool) -> None:
        super().__init__()
        self.read_only = read_only
        # Whether a snapshot came while another screen hid this one.
        self.covered = False
        for binding in bindings(read_only):
            self._bindings.bind(binding.key, binding.action, binding.description, show=False)

    @property
    def top(self) -> LlamatopApp:
        """The app, which holds the latest snapshot."""
        return cast("LlamatopApp", self.app)

    def show(self) -> None:
        """Draw the app's latest snapshot."""

    def showing(self) -> Iterator[None]:
        """The same in pieces, between which keys are answered."""
        self.show()
        yield

    def on_screen_resume(self) -> None:
        """Catch up with what came meanwhile."""
        if self.covered:
            self.covered = False
            self.show()

    def show_plan(self) -> None:
        """Draw how the app's plan stands."""

    def targets(self) -> list[str]:
        """What an action is meant for."""
        return []

    def chosen(self) -> list[str]:
        """What was chosen for an action that is otherwise over the whole cluster."""
        return self.targets()

    def first(self) -> Line | None:
        """The worker, unit or node that a look at one thing is for."""
        targets = self.targets()
        return find(self.top.snapshot, targets[0]) if targets else None

    def unit(self) -> str | None:
        """The worker or unit whose log is meant: on a node the one to look at first."""
        line = self.first()
        row = line.worst if isinstance(line, NodeRow) else line
        return row.name if row is not None else None

    def node(self) -> str | None:
        """The node whose shell is meant."""
        line = self.first()
        return line.node if line is not None else None

    def repalette(self) -> None:
        """Take the app's new colours."""
        for panel in self.query(Lines):
            panel.repalette(self.top.palette)
        self.show()

    def action_mark(self) -> None:
        """Where nothing can be marked, nothing happens."""

    def action_detail(self) -> None:
        """Where the detail is shown already, nothing happens."""

    def action_filter(self) -> None:
        """Where there is no list, nothing happens."""

    def action_sort(self) -> None:
        """Where there is no list, nothing happens."""

    def action_fold_all(self) -> None:
        """Where there is no list, nothing happens."""

    def action_models(self) -> None:
        """Where there are no totals, nothing happens."""

    def action_back(self) -> None:
        """Leave this screen."""
        self.dismiss()

"""Quitting while a plan runs: a question first."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.render.words import piece, wrap
from llamatop.app.screens.dialog import Dialog


class LeaveDialog(Dialog):
    """Enter cancels the plan, rolls back and quits; esc stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "leave", show=False),
        Binding("escape,q", "dismiss", show=False),
    ]

    def heading(self) -> Text:
        """The question."""
        return piece(" a plan is running", self.top.palette["plan.warning"])

    def lines(self, width: int) -> list[Text]:
        """What quitting would do."""
        run = self.top.plan_run
        name = run.name if run else ""
        words = f"Quitting cancels {name!r} and rolls back what it did so far."
        role = self.top.palette["text"]
        return [Text(), *(piece(f" {line}", role) for line in wrap(words, width - 2)), Text()]

    def footing(self) -> Text:
        """What can be pressed."""
        return self.hints(("enter", "cancel it and quit"), ("esc", "stay"))

    def action_leave(self) -> None:
        """Roll back, then quit."""
        self.top.roll_back_and_quit()

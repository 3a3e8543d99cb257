"""The plan dialog: what will happen, exactly; then how it goes."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.planrun import PlanRun
from llamatop.app.render.plan import SPINNER, lines
from llamatop.app.render.words import piece, wrap
from llamatop.app.screens.dialog import Dialog
from llamatop.model.text import plain

_STAGES = {
    "planning": ("", "dim"),
    "refused": ("refused", "plan.failed"),
    "nothing": ("nothing to do", "text"),
    "ready": ("shall this be done?", "plan.warning"),
    "running": ("running", "plan.running"),
    "cancelling": ("cancelling, rolling back", "plan.warning"),
    "done": ("done", "plan.done"),
    "failed": ("failed", "plan.failed"),
    "cancelled": ("cancelled", "plan.undone"),
}
# What overrides a refusal: the command line's option, the key here and its word.
_OVERRIDES = {"--now": ("n", "now, without draining"), "--force": ("f", "force")}


class PlanDialog(Dialog):
    """Draws the app's PlanRun; hiding it while the plan runs leaves the plan running."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "confirm", show=False),
        Binding("escape", "leave", show=False),
        Binding("y", "app.copy_plan", show=False),
        Binding("c", "cancel", show=False),
        Binding("n", "now", show=False),
        Binding("f", "force", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, run: PlanRun) -> None:
        super().__init__()
        self.plan_run = run

    def heading(self) -> Text:
        """What is asked for, and how it stands."""
        palette, run = self.top.palette, self.plan_run
        text = Text(" ", no_wrap=True)
        text.append(run.action, palette["brand"])
        text.append(f" {plain(' '.join(run.targets))}", palette["text"])
        words, role = _STAGES[run.stage]
        if run.stage == "planning":
            words = f"{SPINNER[self.top.frame % len(SPINNER)]} making the plan"
        text.append(f"   {words}", palette[role])
        if run.now:
            text.append("   now", palette["plan.warning"])
        if run.force:
            text.append("   forced", palette["plan.warning"])
        return text

    def lines(self, width: int) -> list[Text]:
        """The plan and its results; a refusal or a failure in its own words."""
        palette, run = self.top.palette, self.plan_run
        made = [Text()]
        if run.plan is not None:
            begun = run.stage not in ("ready", "nothing", "planning", "refused")
            made += lines(run.plan, run.results, width, palette, frame=self.top.frame, begun=begun)
        if run.error:
            if len(made) > 1:
                made.append(Text())
            role = "plan.undone" if run.stage == "cancelled" else "plan.failed"
            for line in _with_keys(run.error).splitlines():
                made += [piece(f" {part}", palette[role]) for part in wrap(line, width - 3)]
        return [*made, Text()]

    def footing(self) -> Text:
        """What can be pressed now."""
        stage = self.plan_run.stage
        if stage == "ready":
            pairs = [("enter", "do it"), ("esc", "leave it"), ("y", "copy")]
            if self.plan_run.action in ("stop", "restart"):
                word = "drain first" if self.plan_run.now else "now, without draining"
                pairs.append(("n", word))
            return self.hints(*pairs)
        if stage == "running":
            return self.hints(
                ("esc", "hide, goes on"), ("c", "cancel and roll back"), ("y", "copy")
            )
        if stage == "refused":
            error = self.plan_run.error or ""
            offered = [pair for option, pair in _OVERRIDES.items() if option in error]
            return self.hints(("esc", "close"), *offered)
        return self.hints(("esc", "close"), ("y", "copy"))

    def action_confirm(self) -> None:
        """Do it, or close what has ended."""
        if self.plan_run.stage == "ready":
            self.plan_run.execute()
        elif not self.plan_run.active and self.plan_run.stage != "planning":
            self.action_leave()

    def action_leave(self) -> None:
        """Hide it; a plan that nobody confirmed is given up."""
        self.top.hide_plan()
        self.dismiss()

    def action_cancel(self) -> None:
        """Stop and roll back."""
        if self.plan_run.active:
            self.plan_run.cancel()

    def action_now(self) -> None:
        """Plan again, without the drain or with it."""
        if self.plan_run.stage in ("ready", "refused") and self.plan_run.action in (
            "stop",
            "restart",
        ):
            self.plan_run.make(now=not self.plan_run.now, force=self.plan_run.force)

    def action_force(self) -> None:
        """Plan again, past the guard that refused."""
        if self.plan_run.stage == "refused":
            self.plan_run.make(now=self.plan_run.now, force=True)

    def action_scroll(self, by: int) -> None:
        """Scroll the body."""
        self.body.scroll_relative(y=by, animate=False)


def _with_keys(refusal: str) -> str:
    """The refusal as said for the command line, with the keys of this dialog in it."""
    for option, (key, _) in _OVERRIDES.items():
        refusal = refusal.replace(option, f"key {key}")
    return refusal

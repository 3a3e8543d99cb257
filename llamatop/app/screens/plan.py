"""The plan dialog: what will happen, exactly; then how it goes."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Input

from llamatop.app.planrun import PlanRun
from llamatop.app.render.plan import SPINNER, lines
from llamatop.app.render.words import piece, wrap
from llamatop.app.screens.dialog import Dialog
from llamatop.model.figures import duration
from llamatop.model.plan import MOST_REASON
from llamatop.model.text import plain
from llamatop.operate.control import Answer
from llamatop.operate.pace import batch_now

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


class ReasonLine(Input):
    """One line to say why in; enter keeps it, esc leaves it as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "screen.keep_reason", show=False)]

    def __init__(self, reason: str) -> None:
        super().__init__(
            reason,
            placeholder="why, for the audit log and other operators",
            compact=True,
            max_length=MOST_REASON,
        )
        self.cursor_blink = False


class PlanDialog(Dialog):
    """Draws the app's PlanRun; hiding it while the plan runs leaves the plan running."""

    DEFAULT_CSS = """
    PlanDialog ReasonLine { height: 1; border: none; padding: 0 1; background: $background; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "confirm", show=False),
        Binding("escape", "leave", show=False),
        Binding("y", "app.copy_plan", show=False),
        Binding("c", "cancel", show=False),
        Binding("n", "now", show=False),
        Binding("f", "force", show=False),
        Binding("w", "wait_or_why", show=False),
        Binding("u", "answer('undo')", show=False),
        Binding("space", "pause", show=False),
        Binding("plus", "at_once(1)", show=False),
        Binding("minus", "at_once(-1)", show=False),
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
        targets = run.targets or (run.plan.targets if run.plan else ())
        text.append(f" {plain(' '.join(targets))}", palette["text"])
        words, role = _STAGES[run.stage]
        if run.stage == "planning":
            words = f"{SPINNER[self.top.frame % len(SPINNER)]} making the plan"
        text.append(f"   {words}", palette[role])
        text.append(self._pace(), palette["plan.warning" if run.control.paused else "dim"])
        if run.at_once > 1:
            text.append(f"   {run.at_once} at once", palette["text"])
        if run.now:
            text.append("   now", palette["plan.warning"])
        if run.force:
            text.append("   forced", palette["plan.warning"])
        return text

    def _pace(self) -> str:
        """How far a plan over several groups of workers is."""
        run = self.plan_run
        if not run.pausable or run.plan is None:
            return ""
        left = run.seconds_left()
        place = f"   {batch_now(run.results.values())} of {run.plan.batches}"
        if run.control.standing:
            return f"{place}, paused"
        if run.control.paused:
            return f"{place}, pausing after this one"
        return f"{place}, {duration(left)} left" if left is not None else place

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
            pairs = [("enter", "do it"), ("esc", "leave it"), ("w", "say why"), ("y", "copy")]
            if self.plan_run.action in ("stop", "restart"):
                word = "drain first" if self.plan_run.now else "now, without draining"
                pairs.append(("n", word))
            if self.plan_run.action == "roll":
                pairs.append(("+ -", "so many at once"))
            return self.hints(*pairs)
        if stage == "running":
            return self._running_keys()
        if stage == "cancelling":
            return self.hints(("esc", "hide"), ("c", "do not wait for what does not serve yet"))
        if stage == "refused":
            error = self.plan_run.error or ""
            offered = [pair for option, pair in _OVERRIDES.items() if option in error]
            return self.hints(("esc", "close"), *offered)
        return self.hints(("esc", "close"), ("y", "copy"))

    def _running_keys(self) -> Text:
        run = self.plan_run
        if run.control.asking:
            return self.hints(("w", "keep waiting"), ("f", "go on, cut it"), ("u", "undo"))
        pairs = [("esc", "hide, goes on"), ("c", "cancel and roll back")]
        if run.pausable:
            pairs.append(("space", "go on" if run.control.paused else "pause"))
        return self.hints(*pairs, ("y", "copy"))

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
        """Plan again, past the guard that refused; or go on without the end of a drain."""
        run = self.plan_run
        if run.stage == "refused":
            run.make(now=run.now, force=True, at_once=run.at_once)
        else:
            run.answer("force")

    def action_wait_or_why(self) -> None:
        """Say why before it is done; while it runs keep waiting for a late drain."""
        run = self.plan_run
        if run.stage != "ready" or run.plan is None:
            run.answer("wait")
        elif not self.query(ReasonLine):
            line = ReasonLine(run.plan.reason)
            self.query_one("Container").mount(line, before=self.foot)
            line.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep what was typed."""
        self.plan_run.say_why(" ".join(plain(event.value).split()))
        self.action_keep_reason()

    def action_keep_reason(self) -> None:
        """Back to the plan."""
        self.query(ReasonLine).remove()
        self.body.focus()
        self.show()

    def action_answer(self, answer: Answer) -> None:
        """What to do with a drain that takes long."""
        self.plan_run.answer(answer)

    def action_pause(self) -> None:
        """Stand still between two workers, or go on."""
        self.plan_run.pause()

    def action_at_once(self, by: int) -> None:
        """Plan the roll again, with more or fewer workers together."""
        run = self.plan_run
        if run.stage in ("ready", "refused") and run.action == "roll" and run.at_once + by > 0:
            run.make(force=run.force, at_once=run.at_once + by)

    def action_scroll(self, by: int) -> None:
        """Scroll the body."""
        self.body.scroll_relative(y=by, animate=False)


def _with_keys(refusal: str) -> str:
    """The refusal as said for the command line, with the keys of this dialog in it."""
    for option, (key, _) in _OVERRIDES.items():
        refusal = refusal.replace(option, f"key {key}")
    return refusal

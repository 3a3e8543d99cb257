"""The half of the app that changes things: the one plan, its dialog, and leaving while it runs."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual.app import App
from textual.notifications import SeverityLevel
from textual.timer import Timer

from llamatop.app.messages import PlanChanged
from llamatop.app.planrun import PlanRun
from llamatop.app.render.palette import Palette
from llamatop.app.render.plan import status
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.screens.dialog import Dialog
from llamatop.collect import leftovers
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Action
from llamatop.model.text import plain
from llamatop.operate.guards import spared
from llamatop.operate.operator import Operator

_OVER_ALL = ("undo", "recover")


class ChangingApp(App[None]):
    """Holds one plan at a time; without an operator, or read-only, it never has one."""

    operator: Operator | None = None
    read_only = False
    auto_drains = False
    plan_run: PlanRun | None = None
    snapshot: ClusterSnapshot
    palette: Palette
    frame = 0
    clock: Callable[[], float]
    _plan_hidden = True

    def __init__(self) -> None:
        super().__init__()
        self._offered: set[tuple[str, tuple[str, str]]] = set()
        self._spinner: Timer | None = None

    def say(self, text: str, severity: SeverityLevel = "information") -> None:
        """Tell the person one sentence; never as markup."""
        self.notify(plain(text), severity=severity, markup=False, timeout=8)

    def current(self) -> ClusterScreen | None:
        """The screen of the cluster that is on top, dialogs left aside."""
        shown = [screen for screen in self.screen_stack if isinstance(screen, ClusterScreen)]
        return shown[-1] if shown else None

    def action_change(self, action: Action) -> None:
        """Make a plan for what is marked or selected, and show it."""
        screen = self.current()
        if screen is None or not self._may_change():
            return
        targets = [] if action in _OVER_ALL else screen.targets()
        if not targets and action not in _OVER_ALL:
            self.say("select a worker first", "warning")
            return
        self._plan(action, targets)

    def action_roll(self, node: str | None = None) -> None:
        """Roll the marked rows, else the worker that is shown, else all; or those of a node."""
        screen = self.current()
        if screen is None or not self._may_change():
            return
        self._plan("roll", [f"{node}/*"] if node is not None else screen.chosen())

    def action_reshape(self) -> None:
        """One process per GPU for a worker split over several, else one over all marked."""
        screen = self.current()
        if screen is None or not self._may_change():
            return
        targets = screen.targets()
        cards = [len(w.gpus or ()) for w in self.snapshot.workers if w.name in targets]
        if len(targets) == 1 and cards == [1]:
            self.say("one GPU: mark (space) the workers of one node to join, then S", "warning")
        elif targets:
            self._plan("unsplit" if max(cards, default=0) > 1 else "split", targets)
        else:
            self.say("select a worker first", "warning")

    def action_take_out(self) -> None:
        """Make the plan that drains what is dead and still sent to, and show it.

        Who cannot be missed stays; where nobody else is dead, the plan itself refuses with why.
        """
        from llamatop.advise.dead import to_take_out

        if not self._may_change():
            return
        left: list[str] = []
        for names in to_take_out(self.snapshot):
            going, staying = spared(self.snapshot, names)
            left += staying
            if going:
                if left:
                    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
                    some = f"{', '.join(left[:3])}{more}"
                    self.say(f"left in, as nothing else would serve there: {some}", "warning")
                self._plan("drain", going)
                return
        if left:
            self._plan("drain", left)
        else:
            self.say("nothing that nginx sends to is dead; d takes out the selected worker")

    def mend(self, action: Action, targets: list[str]) -> None:
        """Make the plan that a finding names, and show it."""
        if self._may_change():
            self._plan(action, targets)

    def offer_leftovers(self, snapshot: ClusterSnapshot) -> None:
        """Say once of each member that a plan left drained who did so, and what puts it back.

        What auto-drain puts back by itself is among the events alone.
        """
        for one in leftovers.find(snapshot.balancer, snapshot.members):
            if (one.plan, one.member) not in self._offered:
                self._offered.add((one.plan, one.member))
                if one.auto and one.own and self.auto_drains:
                    continue
                mend = "" if self.read_only else ": v puts it back"
                name = one.worker or one.member[1]
                self.say(f"{name} {one.story}{mend}", "warning")

    def changing(self) -> frozenset[str]:
        """The workers that the plan at hand is about, while it runs."""
        run = self.plan_run
        if run is None or run.plan is None or not run.active:
            return frozenset()
        return frozenset(run.plan.targets)

    def _may_change(self) -> bool:
        if self.read_only:
            self.say("this cluster is shown read-only; nothing can be changed", "warning")
            return False
        if self.operator is None:
            self.say("no node is read yet; try again in a moment", "warning")
            return False
        if self.plan_run is not None and self.plan_run.active:
            self.say("one plan at a time: p shows the one that runs", "warning")
            return False
        return True

    def _plan(self, action: Action, targets: list[str]) -> None:
        assert self.operator is not None
        self.plan_run = PlanRun(self.operator, action, targets, self._plan_changed)
        self.plan_run.make()
        self.action_show_plan()
        if self._spinner is None:
            self._spinner = self.set_interval(0.125, self.turn)

    def action_show_plan(self) -> None:
        """Open the dialog on the plan there is."""
        from llamatop.app.screens.plan import PlanDialog

        if self.plan_run is None:
            self.say("no plan yet: s x r d u R S z v make one")
        elif not isinstance(self.screen, PlanDialog):
            self._plan_hidden = False
            self.push_screen(PlanDialog(self.plan_run))
            self.draw_plan()

    def _plan_changed(self) -> None:
        self.post_message(PlanChanged())

    def on_plan_changed(self, message: PlanChanged) -> None:
        """The dialog or the status line draws the plan."""
        if self._spinner is not None:
            self._spinner.resume()
        self.draw_plan()

    def draw_plan(self) -> None:
        """Draw how the plan stands wherever it is shown."""
        for screen in self.screen_stack:
            if isinstance(screen, ClusterScreen):
                screen.show_plan()
            elif isinstance(screen, Dialog):
                screen.show()

    def hide_plan(self) -> None:
        """The dialog closes: a running plan goes to the status line, any other is done with."""
        run = self.plan_run
        self._plan_hidden = run is not None and run.active
        if run is not None and not run.active:
            run.cancel()
        self.call_later(self.draw_plan)

    def plan_status(self) -> Text | None:
        """The plan as one line, while it is out of sight and its end was not yet seen."""
        run = self.plan_run
        if run is None or not self._plan_hidden or run.stage in ("planning", "ready", "nothing"):
            return None
        return status(
            run.name,
            "asking" if run.control.asking else run.stage,
            run.plan,
            run.results,
            self.palette,
            self.frame,
            run.seconds_left(),
        )

    def turn(self) -> None:
        """Spinners turn while a plan is made or runs."""
        if self.plan_run is not None and (
            self.plan_run.active or self.plan_run.stage == "planning"
        ):
            self.frame = int(self.clock() * 8)
            self.draw_plan()
        elif self._spinner is not None:
            self._spinner.pause()

    def action_copy_plan(self) -> None:
        """Put the plan's text on the clipboard of the person's terminal (OSC 52)."""
        text = self.plan_run.text() if self.plan_run else ""
        if text:
            self.copy_to_clipboard(text)
            self.say("copied the plan")
        else:
            self.say("no plan to copy yet: s x r d u R S z v make one")

    def action_leave(self) -> None:
        """Quit; with a plan running, ask."""
        from llamatop.app.screens.leave import LeaveDialog

        if self.plan_run is None or not self.plan_run.active:
            self.exit()
        elif not isinstance(self.screen, LeaveDialog):
            self.push_screen(LeaveDialog())

    def roll_back_and_quit(self, status: int = 0) -> None:
        """Cancel the plan, wait until it has undone what it can, then quit with `status`."""
        self.run_worker(self._roll_back_and_quit(status), name="leave")

    async def _roll_back_and_quit(self, status: int) -> None:
        if self.plan_run is not None:
            self.plan_run.cancel()
            await self.plan_run.ended()
        self.exit(return_code=status)

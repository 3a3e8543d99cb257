"""From a snapshot and a wish to the list of steps; nothing here touches a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llamatop.collect import leftovers
from llamatop.errors import Refused, UsageError
from llamatop.model.plan import Action, Expectation, Plan, Verb

from . import guards
from .files import Member
from .impact import members_of, requests_in_flight, workers_behind
from .rolling import batches
from .steps import Steps
from .targets import Target

_FIXED_UNIT_FILES = ("static", "generated", "transient", "indirect", "alias")


@dataclass(kw_only=True)
class Draft(Steps):
    """A plan being written: the steps of one action over targets."""

    action: Action
    now: bool = False
    force: bool = False
    at_once: int = 1
    keep: int = 1
    cuts: int | None = 0

    def plan(self, targets: Sequence[Target]) -> Plan:
        """The steps for all targets; raises Refused where a guard says no."""
        expects = self.expectations(targets)
        match self.action:
            case "start":
                self._start(targets)
            case "stop":
                self._stop(targets)
            case "restart":
                self._restart(targets, [[target] for target in targets])
            case "roll":
                self._roll(targets)
            case "enable" | "disable":
                self._unit_files(self.action, targets)
            case "drain":
                self._drain(targets)
            case "undrain":
                self._undrain(targets)
            case _:
                raise UsageError(f"{self.action} has no targets")
        return self.finished([target.name for target in targets], expects)

    def finished(
        self, targets: Sequence[str], expects: tuple[Expectation, ...], about: str = ""
    ) -> Plan:
        """What was written so far as a plan."""
        return Plan(
            action=self.action,
            targets=tuple(targets),
            steps=tuple(self.steps),
            nothing=tuple(self.nothing),
            warnings=tuple(self.warnings),
            cuts_requests=self.cuts,
            made_at=self.snapshot.taken_at,
            forced=self.force,
            expects=expects,
            keep=self.keep,
            about=about,
        )

    def _start(self, targets: Sequence[Target]) -> None:
        todo = []
        for target in targets:
            if target.active:
                self.nothing.append(f"{target.name} runs already ({target.unit.sub_state})")
            else:
                todo.append(target)
        self.daemon_reload(todo)
        for target in todo:
            self.systemctl("start", target)
            self.wait_healthy(target)
            if target.worker is not None and target.worker.membership == "down":
                self.warn(f"{target.name} stays drained: undrain it to have it serve")

    def _stop(self, targets: Sequence[Target]) -> None:
        todo = self._running(targets)
        self._guard_nginx(todo, needs=self.force, what="--force")
        self.stays([member for target in todo for member in self.serving(target)])
        if not self.now:
            self.take_out(todo)
        for target in todo:
            self.count_cuts(target)
            self.systemctl("stop", target)

    def _roll(self, targets: Sequence[Target]) -> None:
        self._only_workers(targets)
        todo = self._running(targets)
        serving = {target.name: self.serving(target) for target in todo}
        groups = batches(self.snapshot, todo, serving, self.at_once, self.keep)
        most = max(map(len, groups), default=0)
        if most < min(self.at_once, len(todo)):
            self.warn(f"{most} at once, not {self.at_once}, so that {self.keep} stay in")
        self._restart(todo, groups)

    def _restart(self, targets: Sequence[Target], groups: Sequence[Sequence[Target]]) -> None:
        """Group after group, so that the others go on serving."""
        busy = requests_in_flight(self.snapshot.workers) != 0
        allowed = self.now or self.force or not busy
        self._guard_nginx(targets, needs=allowed, what="--now")
        self.daemon_reload(targets)
        for self.batch, group in enumerate(groups, 1):
            running = [target for target in group if target.active]
            leaving = {target.name: self.serving(target) for target in running}
            serving = [member for each in leaving.values() for member in each]
            self.stays(serving)
            if not self.now:
                self.take_out(running)
            for target in group:
                self.count_cuts(target)
                self.systemctl("restart", target)
            for target in group:
                self.wait_healthy(target)
            if serving and not self.now:
                names = ", ".join(name for name, each in leaving.items() if each)
                self.membership(serving, down=False, title=f"put {names} back in")

    def _running(self, targets: Sequence[Target]) -> list[Target]:
        for target in targets:
            if not target.active:
                self.nothing.append(f"{target.name} does not run ({target.unit.active_state})")
        return [target for target in targets if target.active]

    def _unit_files(self, verb: Verb, targets: Sequence[Target]) -> None:
        for target in targets:
            state = target.unit.unit_file_state or ""
            if state.startswith(f"{verb}d"):
                self.nothing.append(f"{target.name} is {state} already")
            elif state in _FIXED_UNIT_FILES:
                self.nothing.append(f"{target.name} is {state}: it cannot be {verb}d")
            else:
                self.systemctl(verb, target)

    def _drain(self, targets: Sequence[Target]) -> None:
        self._only_workers(targets)
        todo, kept = [], []
        for target in targets:
            state = self._membership_of(target)
            out = self._out_by_itself(target)
            if out:
                kept.append((target, out))
            if state in ("in", "mixed", "draining"):
                todo.append(target)
            elif state == "absent":
                self.nothing.append(f"{target.name} is in no upstream")
            elif not out:
                self.nothing.append(f"{target.name} is drained already")
        self.stays([member for target in todo for member in self.serving(target)])
        # before what may take long: auto-drain puts back at any moment
        for target, out in kept:
            self.keep_out(target, out)
        self.take_out(todo)

    def _undrain(self, targets: Sequence[Target]) -> None:
        self._only_workers(targets)
        todo: list[Target] = []
        for target in targets:
            state = self._membership_of(target)
            if state in ("down", "draining", "mixed"):
                todo.append(target)
            else:
                where = "in no upstream" if state == "absent" else "in already"
                self.nothing.append(f"{target.name} is {where}")
        members = [m for target in todo for m in members_of(self.snapshot, target)]
        self.put_in(todo, members)

    def _out_by_itself(self, target: Target) -> list[Member]:
        """Those of its server lines that auto-drain took out, and would put back."""
        out = leftovers.find(self.snapshot.balancer, self.snapshot.members)
        auto = {one.member for one in out if one.auto}
        return [member for member in members_of(self.snapshot, target) if member in auto]

    def put_in(
        self, targets: Sequence[Target], members: Sequence[Member], started: Sequence[str] = ()
    ) -> None:
        """Put server lines back in once the targets behind them answer; raises Refused.

        Those named in `started` are started before in this plan.
        """
        for target in targets:
            if not target.active and not self.force and target.name not in started:
                raise Refused(
                    f"{target.name} does not run ({target.unit.active_state}): start it first,"
                    " or --force puts it in all the same"
                )
        for target in targets:
            if not self.force:
                self.wait_healthy(target)
        if members:
            names = ", ".join(target.name for target in targets)
            names = names or ", ".join(address for _, address in members)
            self.membership(members, down=False, title=f"put {names} back in")

    def take_out(self, targets: Sequence[Target], only: Sequence[Member] | None = None) -> None:
        """Mark down what serves, in one transaction, and wait until nothing runs there.

        `only` leaves the targets' other server lines as they are.
        """
        for target in targets:
            if target.worker is not None:
                override = "; --now skips the drain" if self.action in ("stop", "restart") else ""
                guards.membership_known(target.worker, self.snapshot, override)
        serving = {
            target.name: [m for m in self.serving(target) if only is None or m in only]
            for target in targets
        }
        members = [member for each in serving.values() for member in each]
        if members:
            names = ", ".join(name for name, each in serving.items() if each)
            self.membership(members, down=True, title=f"drain {names}")
        for target in targets:
            draining = target.worker is not None and target.worker.membership == "draining"
            if serving[target.name] or draining:
                self.wait_drained(target)

    def stays(self, leaving: list[Member]) -> None:
        """Refuse where too few stay in; with force that is a warning."""
        for objection in guards.one_stays(self.snapshot, leaving, self.force, self.keep):
            self.warn(objection)

    def _membership_of(self, target: Target) -> str:
        """The worker's membership, certain; raises Refused where it is not."""
        if target.worker is None:
            raise UsageError(f"{target.name} is no worker")
        if self.snapshot.balancer_node is None:
            raise Refused(
                "this cluster has no balancer; name it under [balancer] in the cluster file"
            )
        guards.membership_known(target.worker, self.snapshot, "")
        return target.worker.membership or "absent"

    def _only_workers(self, targets: Sequence[Target]) -> None:
        for target in targets:
            if target.worker is None:
                word = {"roll": "rolled", "undrain": "put back in"}.get(self.action, "drained")
                raise UsageError(f"{target.name} is no worker: only a worker can be {word}")

    def _guard_nginx(self, targets: Iterable[Target], needs: bool, what: str) -> None:
        for target in targets:
            if target.unit.kind != "nginx" or not target.active:
                continue
            flight = requests_in_flight(self.snapshot.workers)
            cut = "an unknown number of requests" if flight is None else f"{flight} requests"
            text = f"{self.action} of {target.name} cuts {cut} that run through it"
            if not needs:
                raise Refused(f"{text}; {what} goes on all the same")
            self.warn(text)

    def count_cuts(self, target: Target) -> None:
        """Count what stopping the target now would cut: nothing where it is drained before."""
        if not target.active:
            return
        drained = any(
            step.kind == "wait-drained"
            and step.unit == target.unit.name
            and step.node == target.node
            for step in self.steps
        )
        if drained:
            return
        if target.unit.kind == "nginx":
            workers = list(self.snapshot.workers)
        elif target.worker is not None:
            workers = [target.worker]
        else:
            workers = workers_behind(self.snapshot, members_of(self.snapshot, target))
        flight = requests_in_flight(workers)
        self.cuts = None if self.cuts is None or flight is None else self.cuts + flight
        if flight is None:
            self.warn(f"{target.name}: how many requests this cuts is not known")
        elif flight and target.unit.kind != "nginx":
            self.warn(f"{target.name}: this cuts {flight} requests")

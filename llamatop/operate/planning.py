"""From a snapshot and a wish to the list of steps; nothing here touches a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llamatop.errors import Refused, UsageError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Action, Command, Plan, Step

from . import guards, systemd
from .files import BalancerFiles, Member
from .impact import members_of, requests_in_flight, workers_behind
from .onnode import membership as onnode
from .targets import Target

DRAIN_SECONDS = 300.0
HEALTHY_SECONDS = 300.0
SYSTEMCTL_SECONDS = 120.0
_FIXED_UNIT_FILES = ("static", "generated", "transient", "indirect", "alias")


@dataclass
class Draft:
    """A plan being written; `prefixes` holds what stands before a command on each node."""

    action: Action
    snapshot: ClusterSnapshot
    files: BalancerFiles | None
    prefixes: dict[str, tuple[str, ...]]
    now: bool = False
    force: bool = False
    timeout_seconds: float | None = None
    steps: list[Step] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cuts: int | None = 0

    def plan(self, targets: Sequence[Target]) -> Plan:
        """The steps for all targets; raises Refused where a guard says no."""
        {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "enable": self._unit_files,
            "disable": self._unit_files,
            "drain": self._drain,
            "undrain": self._undrain,
        }[self.action](targets)
        return Plan(
            action=self.action,
            targets=tuple(target.name for target in targets),
            steps=tuple(self.steps),
            nothing=tuple(self.nothing),
            warnings=tuple(self.warnings),
            cuts_requests=self.cuts,
            made_at=self.snapshot.taken_at,
            forced=self.force,
        )

    def _start(self, targets: Sequence[Target]) -> None:
        for target in targets:
            if target.active:
                self.nothing.append(f"{target.name} runs already ({target.unit.sub_state})")
                continue
            self._systemctl("start", target)
            self._wait_healthy(target)
            if target.worker is not None and target.worker.membership == "down":
                self.warnings.append(f"{target.name} stays drained: undrain it to have it serve")

    def _stop(self, targets: Sequence[Target]) -> None:
        todo = []
        for target in targets:
            if target.active:
                todo.append(target)
            else:
                self.nothing.append(f"{target.name} does not run ({target.unit.active_state})")
        self._guard_nginx(todo, needs=self.force, what="--force")
        self._stays([member for target in todo for member in self._serving(target)])
        if not self.now:
            self._take_out(todo)
        for target in todo:
            self._count_cuts(target)
            self._systemctl("stop", target)

    def _restart(self, targets: Sequence[Target]) -> None:
        busy = requests_in_flight(self.snapshot.workers) != 0
        allowed = self.now or self.force or not busy
        self._guard_nginx(targets, needs=allowed, what="--now")
        # One after another, so that the others go on serving.
        for target in targets:
            serving = self._serving(target) if target.active else []
            self._stays(serving)
            if not self.now and target.active:
                self._take_out([target])
            self._count_cuts(target)
            self._systemctl("restart", target)
            self._wait_healthy(target)
            if serving and not self.now:
                self._membership(serving, down=False, title=f"put {target.name} back in")

    def _unit_files(self, targets: Sequence[Target]) -> None:
        for target in targets:
            state = target.unit.unit_file_state or ""
            if state.startswith(f"{self.action}d"):
                self.nothing.append(f"{target.name} is {state} already")
            elif state in _FIXED_UNIT_FILES:
                self.nothing.append(f"{target.name} is {state}: it cannot be {self.action}d")
            else:
                self._systemctl(self.action, target)

    def _drain(self, targets: Sequence[Target]) -> None:
        self._only_workers(targets)
        todo = []
        for target in targets:
            state = self._state(target)
            if state in ("in", "mixed", "draining"):
                todo.append(target)
            elif state == "down":
                self.nothing.append(f"{target.name} is drained already")
            else:
                self.nothing.append(f"{target.name} is in no upstream")
        self._stays([member for target in todo for member in self._serving(target)])
        self._take_out(todo)

    def _undrain(self, targets: Sequence[Target]) -> None:
        self._only_workers(targets)
        todo: list[Target] = []
        for target in targets:
            state = self._state(target)
            if state in ("down", "draining", "mixed"):
                todo.append(target)
            else:
                where = "in no upstream" if state == "absent" else "in already"
                self.nothing.append(f"{target.name} is {where}")
            if target in todo and not target.active and not self.force:
                raise Refused(
                    f"{target.name} does not run ({target.unit.active_state}): start it first,"
                    " or --force puts it in all the same"
                )
        for target in todo:
            if not self.force:
                self._wait_healthy(target)
        members = [m for target in todo for m in members_of(self.snapshot, target)]
        if members:
            names = ", ".join(target.name for target in todo)
            self._membership(members, down=False, title=f"put {names} back in")

    def _state(self, target: Target) -> str:
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
                raise UsageError(f"{target.name} is no worker: only a worker can be drained")

    def _serving(self, target: Target) -> list[Member]:
        """The target's server lines that are in now, by the file itself where it was read."""
        states = {(m.upstream, m.address): m.state for m in self.snapshot.members}
        return [
            member
            for member in members_of(self.snapshot, target)
            if states.get(member) == "in" and not self._down_in_file(member)
        ]

    def _down_in_file(self, member: Member) -> bool:
        file = self._file_of(member)
        return bool(self.files and file and self.files.down(file, member))

    def _file_of(self, member: Member) -> str | None:
        balancer = self.snapshot.balancer
        for line in (balancer.members if balancer else None) or ():
            if (line.upstream, line.address) == member:
                return line.file
        return None

    def _take_out(self, targets: Sequence[Target]) -> None:
        """Mark down what serves, in one transaction, and wait until nothing runs there."""
        for target in targets:
            if target.worker is not None:
                override = "; --now skips the drain" if self.action != "drain" else ""
                guards.membership_known(target.worker, self.snapshot, override)
        serving = {target.name: self._serving(target) for target in targets}
        members = [member for each in serving.values() for member in each]
        if members:
            names = ", ".join(name for name, each in serving.items() if each)
            self._membership(members, down=True, title=f"drain {names}")
        for target in targets:
            draining = target.worker is not None and target.worker.membership == "draining"
            if serving[target.name] or draining:
                self._wait_drained(target)

    def _stays(self, leaving: list[Member]) -> None:
        for objection in guards.one_stays(self.snapshot, leaving, self.force):
            if objection not in self.warnings:
                self.warnings.append(objection)

    def _guard_nginx(self, targets: Iterable[Target], needs: bool, what: str) -> None:
        for target in targets:
            if target.unit.kind != "nginx" or not target.active:
                continue
            flight = requests_in_flight(self.snapshot.workers)
            cut = "an unknown number of requests" if flight is None else f"{flight} requests"
            text = f"{self.action} of {target.name} cuts {cut} that run through it"
            if not needs:
                raise Refused(f"{text}; {what} goes on all the same")
            self.warnings.append(text)

    def _count_cuts(self, target: Target) -> None:
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
            self.warnings.append(f"{target.name}: how many requests this cuts is not known")
        elif flight and target.unit.kind != "nginx":
            self.warnings.append(f"{target.name}: this cuts {flight} requests")

    def _command(self, node: str, command: Command) -> Command:
        return Command((*self.prefixes[node], *command.argv))

    def _systemctl(self, verb: Action, target: Target) -> None:
        if target.unit.need_daemon_reload:
            self.warnings.append(
                f"{target.name}: its unit file changed on disk; `systemctl daemon-reload` on"
                f" {target.node} has systemd use it"
            )
        self.steps.append(
            Step(
                kind="systemctl",
                node=target.node,
                title=f"{verb} {target.name}",
                commands=(self._command(target.node, systemd.command(verb, target.unit.name)),),
                worker=target.worker.name if target.worker else None,
                unit=target.unit.name,
                members=members_of(self.snapshot, target),
                verb=verb,
                timeout_seconds=SYSTEMCTL_SECONDS,
            )
        )

    def _wait_healthy(self, target: Target) -> None:
        what = "answers" if target.worker else "runs"
        self.steps.append(
            Step(
                kind="wait-healthy",
                node=target.node,
                title=f"wait until {target.name} {what}",
                worker=target.worker.name if target.worker else None,
                unit=target.unit.name,
                members=members_of(self.snapshot, target),
                timeout_seconds=self.timeout_seconds or HEALTHY_SECONDS,
            )
        )

    def _wait_drained(self, target: Target) -> None:
        members = members_of(self.snapshot, target)
        behind = workers_behind(self.snapshot, members)
        self.steps.append(
            Step(
                kind="wait-drained",
                node=target.node,
                title=f"wait until nothing runs on {target.name}",
                worker=target.worker.name if target.worker else behind[0].name if behind else None,
                unit=target.unit.name,
                members=members,
                timeout_seconds=self.timeout_seconds or DRAIN_SECONDS,
            )
        )

    def _membership(self, members: Sequence[Member], down: bool, title: str) -> None:
        balancer, node = self.snapshot.balancer, self.snapshot.balancer_node
        if balancer is None or node is None or self.files is None:
            raise Refused("the balancer cannot be read now; wait until it answers again")
        if balancer.config_valid is False:
            raise Refused(
                "nginx's configuration is invalid already:"
                f" {balancer.config_error or 'see nginx -t'}; mend it first"
            )
        by_file: dict[str, list[Member]] = {}
        for member in dict.fromkeys(members):
            file = self._file_of(member)
            if file is None:
                raise Refused(f"it is not known which file has server {member[1]} of {member[0]}")
            by_file.setdefault(file, []).append(member)
        try:
            edits, changes, diff = self.files.change(by_file, down)
        except KeyError as error:
            raise Refused(f"{error.args[0]} any more: look again") from error
        if not changes:
            self.nothing.append(f"{title}: the file says so already")
            return
        limit = balancer.shutdown_timeout
        warning = f"nginx has worker_shutdown_timeout {limit}: the reload cuts longer streams"
        if limit is not None and warning not in self.warnings:
            self.warnings.append(warning)
        commands: list[Command] = []
        for change in changes:
            argv = onnode.commands(change.target)
            commands += [
                self._command(node, Command(tuple(argv[what])))
                for what in ("keep", "copy", "fill", "swap")
            ]
        commands.append(self._command(node, Command(("nginx", "-t"))))
        commands.append(self._command(node, systemd.reload_nginx(balancer.unit)))
        for change in changes:
            tidy = Command(tuple(onnode.commands(change.target)["tidy"]))
            commands.append(self._command(node, tidy))
        self.steps.append(
            Step(
                kind="membership",
                node=node,
                title=title,
                commands=tuple(commands),
                diff=diff,
                unit=balancer.unit,
                edits=edits,
                files=changes,
                members=tuple(dict.fromkeys(members)),
            )
        )

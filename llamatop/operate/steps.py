"""The steps of a plan being written, each with its exact commands; nothing here touches a node."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from llamatop.errors import Refused
from llamatop.model.cluster import ClusterSnapshot, Membership
from llamatop.model.observed import BalancerSample
from llamatop.model.plan import Command, Expectation, Step, Verb

from . import reloading, systemd
from .files import BalancerFiles, Member, together
from .impact import members_of, workers_behind
from .onnode import membership as onnode
from .targets import Target

DRAIN_SECONDS = 300.0
HEALTHY_SECONDS = 300.0
SYSTEMCTL_SECONDS = 120.0


@dataclass(kw_only=True)
class Steps:
    """Steps in order, with what the person must know of them.

    `prefixes` holds what stands before a command on each node; `batch` is the group of workers
    that is being written.
    """

    snapshot: ClusterSnapshot
    files: BalancerFiles | None
    prefixes: dict[str, tuple[str, ...]]
    timeout_seconds: float | None = None
    steps: list[Step] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    batch: int = 0
    texts: Mapping[Member, Mapping[str, str]] = field(default_factory=dict)

    def serving(self, target: Target) -> list[Member]:
        """The target's server lines that are in now."""
        return [m for m in members_of(self.snapshot, target) if self.state(m) == "in"]

    def _down_in_file(self, member: Member) -> bool | None:
        file = self._file_of(member)
        return self.files.down(file, member) if self.files and file else None

    def _file_of(self, member: Member) -> str | None:
        return self._file_by_member.get(member)

    @functools.cached_property
    def _file_by_member(self) -> dict[Member, str | None]:
        balancer = self.snapshot.balancer
        lines = (balancer.members if balancer else None) or ()
        return {(line.upstream, line.address): line.file for line in reversed(lines)}

    @functools.cached_property
    def _states(self) -> dict[Member, Membership]:
        return {(m.upstream, m.address): m.state for m in self.snapshot.members}

    def warn(self, text: str) -> None:
        """A sentence the person must see, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def command(self, node: str, command: Command) -> Command:
        """The command as it is given there."""
        return Command((*self.prefixes[node], *command.argv))

    def systemctl(self, verb: Verb, target: Target) -> None:
        """`systemctl VERB UNIT`."""
        command = systemd.command(verb, target.unit.name)
        self.add(
            Step(
                kind="systemctl",
                node=target.node,
                title=f"{verb} {target.name}",
                commands=(self.command(target.node, command),),
                worker=target.worker.name if target.worker else None,
                unit=target.unit.name,
                members=members_of(self.snapshot, target),
                verb=verb,
                timeout_seconds=SYSTEMCTL_SECONDS,
            )
        )

    def daemon_reload(self, targets: Sequence[Target]) -> None:
        """`systemctl daemon-reload`, once a node, where a unit file changed on disk."""
        for node in dict.fromkeys(target.node for target in targets):
            changed = [t for t in targets if t.node == node and t.unit.need_daemon_reload]
            if not changed:
                continue
            names = ", ".join(target.name for target in changed)
            self.add(
                Step(
                    kind="systemctl",
                    node=node,
                    title=f"daemon-reload: the unit file of {names} changed on disk",
                    commands=(self.command(node, systemd.daemon_reload()),),
                    unit=changed[0].unit.name,
                    verb="daemon-reload",
                    timeout_seconds=SYSTEMCTL_SECONDS,
                )
            )

    def wait_healthy(self, target: Target) -> None:
        """Wait until the unit runs, its worker answers and the balancer reaches it."""
        what = "answers" if target.worker else "runs"
        self.add(
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

    def wait_drained(self, target: Target) -> None:
        """Wait until nothing runs on the target, or on any worker behind it."""
        members = members_of(self.snapshot, target)
        behind = workers_behind(self.snapshot, members)
        alone = [target.worker.name] if target.worker else [None]
        for worker in alone if target.worker else [w.name for w in behind] or alone:
            through = f" through {target.name}" if target.worker is None else ""
            self.add(
                Step(
                    kind="wait-drained",
                    node=target.node,
                    title=f"wait until nothing runs on {worker or target.name}{through}",
                    worker=worker,
                    unit=target.unit.name,
                    members=members,
                    timeout_seconds=self.timeout_seconds or DRAIN_SECONDS,
                )
            )

    def membership(self, members: Sequence[Member], down: bool, title: str) -> None:
        """Mark server lines down or up in one transaction; raises Refused where that cannot be.

        Lines that stand as in `texts` are put as those say.
        """
        self.transaction(title, out=members if down else (), back=() if down else members)

    def transaction(
        self,
        title: str,
        *,
        out: Sequence[Member] = (),
        back: Sequence[Member] = (),
        beside: Sequence[tuple[Member, str]] = (),
    ) -> None:
        """Server lines marked down, marked up, and put in beside others, in one transaction.

        `beside` are a line that there is, and the address of the one that is to stand behind it.
        """
        balancer, node = self._usable_balancer()
        assert self.files is not None
        wanted: dict[bool, dict[str, list[Member]]] = {True: {}, False: {}}
        for down, members in ((True, out), (False, back)):
            for member in dict.fromkeys(members):
                file = self._known_file(member)
                if self.files.down(file, member) is not down:
                    wanted[down].setdefault(file, []).append(member)
        new: dict[str, list[tuple[str, str, str]]] = {}
        for (upstream, address), added in beside:
            file = self._known_file((upstream, address))
            new.setdefault(file, []).append((upstream, address, added))
        try:
            added_edits, added_changes = self.files.add(new)
            marked = [self.files.change(wanted[down], down, self.texts) for down in (True, False)]
        except KeyError as error:
            raise Refused(f"{error.args[0]} any more: look again") from error
        edits = (*added_edits, *(edit for edits, _, _ in marked for edit in edits))
        changes, diff = together(added_changes, *(changes for _, changes, _ in marked))
        if not changes:
            self.nothing.append(f"{title}: the file says so already")
            return
        members = [*out, *back, *((upstream, added) for (upstream, _), added in beside)]
        limit = balancer.shutdown_timeout
        if limit is not None:
            self.warn(f"nginx has worker_shutdown_timeout {limit}: the reload cuts longer streams")
        commands: list[Command] = []
        for change in changes:
            argv = onnode.commands(change.target)
            commands += [
                self.command(node, Command(tuple(argv[what])))
                for what in ("keep", "copy", "fill", "swap")
            ]
        own, sudo = self.snapshot.cluster.balancer, self.prefixes[node]
        commands += [reloading.test(own, sudo), reloading.reload(own, balancer.unit, sudo)]
        for change in changes:
            tidy = Command(tuple(onnode.commands(change.target)["tidy"]))
            commands.append(self.command(node, tidy))
        self.add(
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

    def keep_out(self, target: Target, members: Sequence[Member]) -> None:
        """Write down that what auto-drain took out is to stay so; the files stay as they are."""
        balancer, node = self._usable_balancer()
        assert self.files is not None
        wanted: dict[str, list[Member]] = {}
        for member in members:
            wanted.setdefault(self._known_file(member), []).append(member)
        edits, changes, _ = self.files.change(wanted, down=True)
        if changes:
            raise Refused(f"{target.name} is being put back in just now: look again")
        self.add(
            Step(
                kind="membership",
                node=node,
                title=f"keep {target.name} out: auto-drain took it out and does not put it back",
                unit=balancer.unit,
                edits=edits,
                files=self.files.unchanged({edit.file for edit in edits}),
                members=tuple(members),
            )
        )

    def _usable_balancer(self) -> tuple[BalancerSample, str]:
        balancer, node = self.snapshot.balancer, self.snapshot.balancer_node
        if balancer is None or node is None or self.files is None:
            raise Refused("the balancer cannot be read now; wait until it answers again")
        if balancer.config_valid is False:
            raise Refused(
                "nginx's configuration is invalid already:"
                f" {balancer.config_error or 'see nginx -t'}; mend it first"
            )
        return balancer, node

    def _known_file(self, member: Member) -> str:
        file = self._file_of(member)
        if file is None:
            raise Refused(f"it is not known which file has server {member[1]} of {member[0]}")
        return file

    def expectations(self, targets: Sequence[Target]) -> tuple[Expectation, ...]:
        """What the plan takes for granted of its targets."""
        return tuple(self._expectation(target) for target in targets)

    def _expectation(self, target: Target) -> Expectation:
        unit = target.unit
        steady = unit.active_state in ("inactive", "failed") or (
            unit.active_state == "active" and unit.sub_state == "running"
        )
        return Expectation(
            target.name,
            target.node,
            unit.name,
            unit.active_state if steady else None,
            unit.main_pid or None if steady else None,
            tuple(
                (upstream, address, state != "in")
                for upstream, address in members_of(self.snapshot, target)
                if (state := self.state((upstream, address))) is not None
            ),
        )

    def state(self, member: Member) -> Membership | None:
        """How a server line stands, by the file itself where it was read; None without one."""
        state, down = self._states.get(member), self._down_in_file(member)
        if state not in ("in", "down") or down is None:
            return state
        return "down" if down else "in"

    def add(self, step: Step) -> None:
        """The next step, of the group of workers at hand."""
        self.steps.append(replace(step, batch=self.batch))

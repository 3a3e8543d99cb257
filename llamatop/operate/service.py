"""The Operator over a live cluster: plans from its latest snapshot, carried out on its machines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from llamatop.collect import leftovers
from llamatop.errors import LlamatopError, NodeError, Refused, UsageError
from llamatop.model.cluster import ClusterSnapshot, Event, Severity
from llamatop.model.plan import Action, Command, Plan, StepResult

from . import guards, left_on_nodes, unit_facts
from .audit import Audit, who
from .control import Control
from .execution import Execution
from .files import BalancerFiles, Member
from .history import last_change
from .impact import members_of
from .live import Fleet, LiveSource
from .membership import MembershipFailed, killed
from .newcomers import sleepers
from .node_journal import NodeJournal
from .onnode import membership as onnode
from .planning import Draft
from .privilege import SUDO, Privileges
from .recovering import recover, refusal
from .reshaping import groups, reshape
from .targets import Target, behind, resolve
from .undoing import undo
from .unmaking import ACTIONS as RESHAPING
from .waits import look

_CHANGING_MEMBERSHIP = ("stop", "restart", "roll", "drain", "undrain")


class ClusterOperator:
    """Implements Operator; several plans may run at once, the balancer's lock parts them."""

    def __init__(self, source: LiveSource, machines: Fleet, audit: Audit | None = None) -> None:
        self._source = source
        self._machines = machines
        self._audit = audit or Audit()
        self._privileges = Privileges(machines)
        self._warned: str | None = None
        self._running: list[Plan] = []

    async def plan(
        self,
        action: Action,
        targets: Sequence[str],
        *,
        now: bool = False,
        force: bool = False,
        timeout_seconds: float | None = None,
        at_once: int = 1,
        keep: int = 1,
    ) -> Plan:
        """A plan made from the latest snapshot and the balancer's files as they are now.

        Raises UsageError, Refused, or NodeError where a file cannot be read or a right is missing.
        """
        snapshot = self._source.latest
        if action == "undo":
            if targets:
                raise UsageError("undo takes back the last membership change; it takes no worker")
            return await self._undo(snapshot, force, timeout_seconds)
        if action == "recover":
            return await self._recover(snapshot, targets, force, timeout_seconds)
        if action == "roll" and not targets:
            targets = [w.name for w in snapshot.workers if snapshot.cluster.node(w.node).ssh]
        if not targets:
            raise UsageError(f"{action} what? name a worker, as node/short")
        found = resolve(snapshot, targets)
        if action in RESHAPING:
            alone = len(found) == 1 and not any(sign in targets[0] for sign in "*?[")
            return await self._reshape(action, snapshot, found, alone, force, timeout_seconds)
        draft = await self._draft(
            action,
            snapshot,
            set(guards.needed(snapshot, action, {target.node for target in found})),
            {member for target in found for member in members_of(snapshot, target)}
            if action in _CHANGING_MEMBERSHIP
            else None,
            force=force,
            timeout_seconds=timeout_seconds,
        )
        draft.now, draft.at_once, draft.keep = now, at_once, keep
        # Over hundreds of workers this takes seconds, while keys have to be answered.
        plan = await asyncio.to_thread(draft.plan, found)
        return await self._allowed(plan)

    async def _reshape(
        self,
        action: Action,
        snapshot: ClusterSnapshot,
        found: Sequence[Target],
        alone: bool,
        force: bool,
        timeout_seconds: float | None,
    ) -> Plan:
        """Workers split over cards put as one process on each, or the other way round."""
        nodes = list(dict.fromkeys(target.node for target in found))
        guards.reachable_by_ssh(snapshot, nodes)
        guards.fresh(snapshot, nodes)
        await left_on_nodes.nobody_at_it(self._machines, found)
        others = [worker for node in nodes for worker in sleepers(snapshot, node)]
        workers = [*(t.worker for t in found if t.worker is not None), *others]
        draft = await self._draft(
            action,
            snapshot,
            set(nodes),
            {member for worker in workers for member in worker.members},
            force=force,
            timeout_seconds=timeout_seconds,
        )
        wanted = groups(draft, found, alone)
        used = {(group.node, old.unit.name) for group in wanted for old in group.olds}
        facts, sources = {}, {}
        for node in dict.fromkeys(group.node for group in wanted):
            facts[node] = await unit_facts.facts(self._machines.machine(node), snapshot)
        for node, unit in dict.fromkeys([*used, *((w.node, w.unit.name) for w in others)]):
            if node not in facts:
                continue
            try:
                sources[node, unit] = await unit_facts.source(self._machines.machine(node), unit)
            except NodeError:
                # One that only might be used again need not be readable.
                if (node, unit) in used:
                    raise
        plan = await asyncio.to_thread(reshape, draft, found, wanted, facts, sources)
        return await self._allowed(plan)

    async def _undo(
        self, snapshot: ClusterSnapshot, force: bool, timeout_seconds: float | None
    ) -> Plan:
        """The last membership change taken back, from the audit log."""
        path, name = self._audit.path, snapshot.cluster.name
        try:
            change = last_change(path, name)
        except OSError as error:
            raise Refused(f"the audit log {path} cannot be read: {error.strerror}") from error
        if change is None:
            nothing = f"{path} knows of no membership change of {name}"
            return Plan("undo", (), nothing=(nothing,), made_at=snapshot.taken_at)
        back = {"split": "unsplit", "unsplit": "split"}.get(change.title.partition(" ")[0])
        if back is not None:
            raise Refused(f"the last change is {change.title}: llamatop {back} takes that back")
        owners = behind(snapshot)
        nodes = {owners[member].node for member in change.members if member in owners}
        draft = await self._draft(
            "undo",
            snapshot,
            nodes,
            set(change.members),
            force=force,
            timeout_seconds=timeout_seconds,
        )
        plan = undo(draft, change)
        return await self._allowed(plan)

    async def _recover(
        self,
        snapshot: ClusterSnapshot,
        targets: Sequence[str],
        force: bool,
        timeout_seconds: float | None,
    ) -> Plan:
        """What plans that are over left drained or half-changed put right, of all or of targets."""
        there = await left_on_nodes.cut_off(snapshot, self._machines)
        cut = there.plans
        if cut:
            # What was begun just before the end may not have been seen yet.
            nodes = {one.node for one in cut} | {snapshot.balancer_node or cut[0].node}
            await look(self._source, list(nodes))
            snapshot = self._source.latest
        left = leftovers.find(snapshot.balancer, snapshot.members)
        owners = behind(snapshot)
        found = resolve(snapshot, targets) if targets else snapshot.workers
        nodes = {owners[one.member].node for one in left if one.member in owners}
        draft = await self._draft(
            "recover",
            snapshot,
            {node for node in nodes if refusal(snapshot, node) is None} | {c.node for c in cut},
            {(member.upstream, member.address) for member in snapshot.members},
            force=force,
            timeout_seconds=timeout_seconds,
        )
        beside: dict[str, str] = {}
        node = snapshot.balancer_node
        if draft.files is not None and node is not None:
            machine = self._machines.machine(node)
            try:
                beside = await killed(machine, f"{who()}: recover", draft.files.targets)
            except MembershipFailed as failure:
                raise Refused(f"{node}: {failure}") from failure
        plan = recover(draft, left, beside, {target.name for target in found}, there)
        stays, warnings = (*plan.stays, *there.faults), (*plan.warnings, *there.running)
        plan = replace(plan, stays=stays, warnings=warnings)
        return await self._allowed(plan)

    async def _draft(
        self,
        action: Action,
        snapshot: ClusterSnapshot,
        nodes: set[str],
        members: set[Member] | None,
        *,
        force: bool,
        timeout_seconds: float | None,
    ) -> Draft:
        """An empty plan over nodes that answer; with `members` the balancer's files are read."""
        moving = members is not None and snapshot.balancer_node is not None
        if moving and snapshot.balancer_node is not None:
            nodes = nodes | {snapshot.balancer_node}
        guards.reachable_by_ssh(snapshot, sorted(nodes))
        guards.fresh(snapshot, sorted(nodes))
        prefixes = {node: await self._privileges.prefix(node) for node in sorted(nodes)}
        files = await self._files(snapshot, members or set(), prefixes) if moving else None
        return Draft(
            action=action,
            snapshot=snapshot,
            files=files,
            prefixes=prefixes,
            force=force,
            timeout_seconds=timeout_seconds,
        )

    async def execute(
        self, plan: Plan, control: Control | None = None
    ) -> AsyncGenerator[StepResult, None]:
        """Run the steps in order; see Operator. Every result goes into the audit log too."""
        title = plan.title
        identity = self._log_begin(plan)
        execution = Execution(
            plan, self._source, self._machines, self._privileges, control, identity
        )
        journal = NodeJournal(self._machines, who(), identity, plan.explained)
        nodes = guards.needed(self._source.latest, plan.action, [step.node for step in plan.steps])
        journal.say(nodes, "begun")
        self._announce("info", f"{plan.explained}: begun", plan)
        self._running.append(plan)
        self._source.expect(plan)
        ok, error = False, "interrupted"
        try:
            async with contextlib.aclosing(execution.run()) as results:
                async for result in results:
                    if result.state != "running":
                        self._log_step(identity, result, plan)
                        journal.step(result)
                        self._announce_step(title, result, plan)
                    yield result
            ok, error = True, ""
        except LlamatopError as failure:
            error = str(failure)
            raise
        finally:
            self._running = [one for one in self._running if one is not plan]
            self._source.expect(self._running[-1] if self._running else None)
            self._log_end(identity, ok, error or None)
            journal.say(nodes, error or "done")
            undone = "".join(f"; {text}" for text in execution.undone if text not in error)
            if ok:
                self._announce("info", f"{title}: done", plan)
            else:
                self._announce("error", f"{title}: {error}{undone}", plan)
            await journal.close()

    def _announce_step(self, title: str, result: StepResult, plan: Plan) -> None:
        severity: Severity = "error" if result.state == "failed" else "info"
        what = result.error or result.progress or result.state
        text = f"{title}: {result.step.title}: {what} ({result.seconds:.1f} s)"
        self._announce(severity, text, plan)

    async def _files(
        self,
        snapshot: ClusterSnapshot,
        wanted: set[Member],
        prefixes: dict[str, tuple[str, ...]],
    ) -> BalancerFiles | None:
        """The files that hold these server lines, None where there is no balancer."""
        node = snapshot.balancer_node
        if node is None or snapshot.balancer is None:
            return None
        paths = [
            line.file
            for line in snapshot.balancer.members or ()
            if (line.upstream, line.address) in wanted and line.file is not None
        ]
        return await BalancerFiles.read(self._machines, node, paths, prefixes[node])

    async def _allowed(self, plan: Plan) -> Plan:
        """Find a missing right before the first step, those of the way back included."""
        needed: dict[str, list[Command]] = {}
        for step in plan.steps:
            commands = [*step.commands, *(c for back in step.back for c in back.commands)]
            for change in step.files:
                back = tuple(onnode.commands(change.target)["back"])
                if any(command.argv[:2] == SUDO for command in step.commands):
                    commands.append(Command((*SUDO, *back)))
            needed.setdefault(step.node, []).extend(commands)
        warnings = list(plan.warnings)
        for node, commands in needed.items():
            await self._privileges.check(node, commands)
            if commands and self._privileges.by_polkit(node):
                warnings.append(f"{node} has no sudo: whether polkit allows it shows at its step")
        return replace(plan, warnings=tuple(warnings))

    def _announce(self, severity: Severity, text: str, plan: Plan) -> None:
        worker = plan.targets[0] if len(plan.targets) == 1 else None
        node = plan.steps[0].node if plan.steps else None
        self._source.announce(Event(datetime.now(UTC), severity, text, node, worker))

    def _log_begin(self, plan: Plan) -> str | None:
        try:
            return self._audit.begin(self._source.cluster.name, plan)
        except OSError as error:
            self._unlogged(error, plan)
            return None

    def _unlogged(self, error: OSError, plan: Plan) -> None:
        text = f"the audit log {self._audit.path} cannot be written: {error.strerror}"
        self._announce("warning", text, replace(plan, targets=()))

    def _log_step(self, identity: str | None, result: StepResult, plan: Plan) -> None:
        if identity is not None:
            try:
                self._audit.step(identity, result)
            except OSError as error:
                if self._warned != identity:
                    self._unlogged(error, plan)
                self._warned = identity

    def _log_end(self, identity: str | None, ok: bool, error: str | None) -> None:
        if identity is not None:
            with contextlib.suppress(OSError):
                self._audit.end(identity, ok, error)

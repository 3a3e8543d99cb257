"""The Operator over a live cluster: plans from its latest snapshot, carried out on its machines."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from llamatop.errors import LlamatopError, UsageError
from llamatop.model.cluster import ClusterSnapshot, Event, Severity
from llamatop.model.plan import Action, Command, Plan, StepResult

from . import guards
from .audit import Audit
from .execution import Execution
from .files import BalancerFiles
from .impact import members_of
from .live import Fleet, LiveSource
from .onnode import membership as onnode
from .planning import Draft
from .privilege import SUDO, Privileges
from .targets import Target, resolve

_CHANGING_MEMBERSHIP = ("stop", "restart", "drain", "undrain")


class ClusterOperator:
    """Implements Operator; several plans may run at once, the balancer's lock parts them."""

    def __init__(self, source: LiveSource, machines: Fleet, audit: Audit | None = None) -> None:
        self._source = source
        self._machines = machines
        self._audit = audit or Audit()
        self._privileges = Privileges(machines)

    async def plan(
        self,
        action: Action,
        targets: Sequence[str],
        *,
        now: bool = False,
        force: bool = False,
        timeout_seconds: float | None = None,
    ) -> Plan:
        """A plan made from the latest snapshot and the balancer's files as they are now.

        Raises UsageError, Refused, or NodeError where a file cannot be read or a right is missing.
        """
        snapshot = self._source.latest
        if not targets:
            raise UsageError(f"{action} what? name a worker, as node/short")
        found = resolve(snapshot, targets)
        nodes = {target.node for target in found}
        moving = action in _CHANGING_MEMBERSHIP and snapshot.balancer_node is not None
        if moving and snapshot.balancer_node is not None:
            nodes.add(snapshot.balancer_node)
        guards.reachable_by_ssh(snapshot, sorted(nodes))
        guards.fresh(snapshot, sorted(nodes))
        prefixes = {node: await self._privileges.prefix(node) for node in sorted(nodes)}
        files = await self._files(snapshot, found, prefixes) if moving else None
        draft = Draft(action, snapshot, files, prefixes, now, force, timeout_seconds)
        plan = draft.plan(found)
        await self._check_rights(plan)
        return plan

    async def execute(self, plan: Plan) -> AsyncGenerator[StepResult, None]:
        """Run the steps in order; see Operator. Every result goes into the audit log too."""
        execution = Execution(plan, self._source, self._machines, self._privileges)
        title = f"{plan.action} {' '.join(plan.targets)}"
        identity = self._log_begin(plan)
        self._announce("info", f"{title}: begun", plan)
        self._source.expect(plan)
        ok, error = False, "interrupted"
        try:
            async with contextlib.aclosing(execution.run()) as results:
                async for result in results:
                    if result.state != "running":
                        self._log_step(identity, result)
                    yield result
            ok, error = True, ""
        except LlamatopError as failure:
            error = str(failure)
            raise
        finally:
            self._source.expect(None)
            self._log_end(identity, ok, error or None)
            undone = "".join(f"; {text}" for text in execution.undone if text not in error)
            if ok:
                self._announce("info", f"{title}: done", plan)
            else:
                self._announce("error", f"{title}: {error}{undone}", plan)

    async def _files(
        self,
        snapshot: ClusterSnapshot,
        targets: Sequence[Target],
        prefixes: dict[str, tuple[str, ...]],
    ) -> BalancerFiles | None:
        """The files that hold the targets' server lines, None where there is none."""
        node = snapshot.balancer_node
        if node is None or snapshot.balancer is None:
            return None
        wanted = {member for target in targets for member in members_of(snapshot, target)}
        paths = [
            line.file
            for line in snapshot.balancer.members or ()
            if (line.upstream, line.address) in wanted and line.file is not None
        ]
        return await BalancerFiles.read(self._machines, node, paths, prefixes[node])

    async def _check_rights(self, plan: Plan) -> None:
        """Find a missing right before the first step, those of the way back included."""
        needed: dict[str, list[Command]] = {}
        for step in plan.steps:
            commands = list(step.commands)
            for change in step.files:
                back = tuple(onnode.commands(change.target)["back"])
                if any(command.argv[:2] == SUDO for command in step.commands):
                    commands.append(Command((*SUDO, *back)))
            needed.setdefault(step.node, []).extend(commands)
        for node, commands in needed.items():
            await self._privileges.check(node, commands)

    def _announce(self, severity: Severity, text: str, plan: Plan) -> None:
        worker = plan.targets[0] if len(plan.targets) == 1 else None
        node = plan.steps[0].node if plan.steps else None
        self._source.announce(Event(datetime.now(UTC), severity, text, node, worker))

    def _log_begin(self, plan: Plan) -> str | None:
        try:
            return self._audit.begin(self._source.cluster.name, plan)
        except OSError as error:
            text = f"the audit log {self._audit.path} cannot be written: {error.strerror}"
            self._announce("warning", text, replace(plan, targets=()))
            return None

    def _log_step(self, identity: str | None, result: StepResult) -> None:
        if identity is not None:
            with contextlib.suppress(OSError):
                self._audit.step(identity, result)

    def _log_end(self, identity: str | None, ok: bool, error: str | None) -> None:
        if identity is not None:
            with contextlib.suppress(OSError):
                self._audit.end(identity, ok, error)

"""Whether the cluster still is as a plan takes it to be."""

from __future__ import annotations

from collections.abc import Collection

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import UnitState
from llamatop.model.plan import Expectation, Plan, Step

from .files import Member


class Standing:
    """A plan's expectations, moving on with what the plan itself has changed."""

    def __init__(self, plan: Plan) -> None:
        self._expects = {(e.node, e.unit): e for e in plan.expects}
        self._down: dict[Member, bool] = {
            (upstream, address): down
            for expectation in plan.expects
            for upstream, address, down in expectation.members
        }
        self._touched: set[tuple[str, str]] = set()
        self._back: dict[tuple[str, str], tuple[Step, UnitState]] = {}

    def done(self, step: Step, snapshot: ClusterSnapshot) -> None:
        """The plan has changed this much itself, or seen a unit well again."""
        if step.kind == "membership":
            for edit in step.edits:
                self._down.update({(edit.upstream, a): edit.down for a in edit.addresses})
        elif step.kind == "systemctl" and step.unit is not None:
            self._touched.add((step.node, step.unit))
            self._back.pop((step.node, step.unit), None)
        elif step.kind == "wait-healthy" and step.unit is not None:
            unit = _unit(snapshot, step.node, step.unit)
            if unit is not None:
                self._back[step.node, step.unit] = step, unit

    def fallen(self, snapshot: ClusterSnapshot, among: Collection[Member] = ()) -> list[str]:
        """Which units that were well are so no longer, a sentence each; of `among` or of all."""
        found = []
        for (node, name), (step, was) in self._back.items():
            now = _unit(snapshot, node, name)
            same = now and (now.active_state, now.main_pid) == (was.active_state, was.main_pid)
            if now is None or same or (among and not {*among} & {*step.members}):
                continue
            state = f"{now.active_state}/{now.sub_state}"
            restarts = f", {now.restarts} restarts" if now.restarts else ""
            worker = step.worker or f"{node}/{name}"
            found.append(f"{worker} was healthy, but did not stay so ({state}{restarts})")
        return found

    def wrong(self, snapshot: ClusterSnapshot) -> list[str]:
        """What is no longer as the plan found it, a sentence each."""
        found = [self._unit(one, snapshot, exact=True) for one in self._expects.values()]
        found += [self._members(one, snapshot) for one in self._expects.values()]
        return [text for text in found if text]

    def wrong_for(self, step: Step, snapshot: ClusterSnapshot) -> list[str]:
        """The same of a step's unit alone; that it was started again by itself is no matter."""
        expectation = self._expects.get((step.node, step.unit or ""))
        if expectation is None:
            return []
        unit = self._unit(expectation, snapshot, exact=False)
        return [text for text in (unit, self._members(expectation, snapshot)) if text]

    def _unit(self, expected: Expectation, snapshot: ClusterSnapshot, exact: bool) -> str | None:
        unit = _unit(snapshot, expected.node, expected.unit)
        if (expected.node, expected.unit) in self._touched or expected.active_state is None:
            return None
        if unit is None:
            return f"{expected.name} is not there any more"
        if unit.active_state != expected.active_state:
            return f"{expected.name} was {expected.active_state}, it is {unit.active_state} now"
        if exact and (unit.main_pid or None) != expected.main_pid:
            return (
                f"{expected.name} was started again: its main process was"
                f" {expected.main_pid or 'none'}, it is {unit.main_pid or 'none'} now"
            )
        return None

    def _members(self, expected: Expectation, snapshot: ClusterSnapshot) -> str | None:
        states = {(m.upstream, m.address): m.state != "in" for m in snapshot.members}
        for upstream, address, _ in expected.members:
            member = (upstream, address)
            if member not in states:
                return f"{address} is not in upstream {upstream} any more"
            if states[member] != self._down[member]:
                word = "marked down" if states[member] else "put in"
                return f"{address} was {word} in {upstream} by another hand"
        return None


def _unit(snapshot: ClusterSnapshot, node: str, unit: str) -> UnitState | None:
    return next((n.snapshot.units.get(unit) for n in snapshot.nodes if n.name == node), None)

"""What llamatop will not do unasked; every refusal says what overrides it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from llamatop.errors import Refused
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.plan import Action

STALE_TICKS = 3
_NOT_SERVING = ("unreachable", "error", "loading")


def fresh(snapshot: ClusterSnapshot, nodes: Iterable[str]) -> None:
    """Refuse where a node's figures are older than 3 ticks, or there are none."""
    limit = STALE_TICKS * snapshot.cluster.interval_seconds
    for name in dict.fromkeys(nodes):
        node = snapshot.node(name)
        age = node.age_seconds
        if node.snapshot.received_at is not None:
            age = max(age or 0.0, time.monotonic() - node.snapshot.received_at)
        if not node.reachable or age is None:
            raise Refused(f"{name} does not answer: {node.fault or 'nothing was read from it yet'}")
        if age > limit:
            raise Refused(
                f"what is known of {name} is {age:.1f} s old, more than {STALE_TICKS} ticks;"
                " wait until it answers again"
            )


def needed(snapshot: ClusterSnapshot, action: Action, nodes: Iterable[str]) -> list[str]:
    """Those of a plan's nodes that must answer: a drain needs none but the balancer's.

    So a worker can be taken out whose node is lost. One that answers late is not lost.
    """
    lost = {node.name for node in snapshot.nodes if not node.reachable and node.fault}
    if action != "drain":
        lost = set()
    return [node for node in nodes if node not in lost or node == snapshot.balancer_node]


def reachable_by_ssh(snapshot: ClusterSnapshot, nodes: Iterable[str]) -> None:
    """Refuse where a node is read by HTTP alone."""
    for name in nodes:
        if snapshot.cluster.node(name).ssh is None:
            raise Refused(f"{name} has no ssh in the cluster file, so nothing there can be changed")


def membership_known(worker: WorkerView, snapshot: ClusterSnapshot, override: str) -> None:
    """Refuse where it is not certain which server lines lead to the worker.

    Without a balancer there is nothing to be certain of. `override` is a half sentence or "".
    """
    if snapshot.balancer_node is None or worker.membership is not None:
        return
    if snapshot.balancer is None or snapshot.balancer.members is None:
        fault = snapshot.balancer.fault if snapshot.balancer else None
        node = snapshot.balancer_node
        fault = fault or snapshot.node(node).fault or "nothing was read from it yet"
        raise Refused(f"the balancer on {node} cannot be read: {fault}{override}")
    why = worker.membership_fault or (
        "it is not known which server line leads here; write"
        f' member = "ADDRESS" under its [[node.worker]] (unit = "{worker.unit.name}")'
        " in the cluster file"
    )
    raise Refused(f"{worker.name}: {why}{override}")


def one_stays(
    snapshot: ClusterSnapshot, leaving: Collection[tuple[str, str]], force: bool, keep: int = 1
) -> list[str]:
    """Refuse to take out of an upstream all but `keep` members, or the last one with a model.

    `leaving` are (upstream, address). With `force` the refusals come back as warnings.
    """
    found = objections(snapshot, leaving, keep)
    if found and not force:
        raise Refused(f"{'; '.join(found)}; --force goes on all the same")
    return found


def objections(
    snapshot: ClusterSnapshot, leaving: Collection[tuple[str, str]], keep: int = 1
) -> list[str]:
    """What speaks against `leaving` going together: fewer than `keep` stay, or none with a model.

    A member stays where it is in and nothing known speaks against its serving.
    """
    found: list[str] = []
    workers = {worker.name: worker for worker in snapshot.workers}
    for upstream in dict.fromkeys(name for name, _ in leaving):
        members = [m for m in snapshot.members if m.upstream == upstream and m.state == "in"]
        going = [m for m in members if (m.upstream, m.address) in leaving]
        staying = [
            m
            for m in members
            if (m.upstream, m.address) not in leaving and _serves(workers.get(m.worker or ""))
        ]
        names = ", ".join(m.worker or m.address for m in going)
        if not going:
            continue
        if not staying:
            found.append(
                f"{names} is the last member in of upstream {upstream}"
                if len(going) == 1
                else f"{names} are all that is in of upstream {upstream}"
            )
            continue
        if len(staying) < keep:
            found.append(
                f"without {names} only {len(staying)} would stay in of upstream {upstream},"
                f" and {keep} are to"
            )
        models = {_model(workers.get(m.worker or "")) for m in staying}
        for model in dict.fromkeys(_model(workers.get(m.worker or "")) for m in going):
            if model is not None and None not in models and model not in models:
                found.append(f"{names}: no other member in of {upstream} has model {model}")
    return found


def spared(snapshot: ClusterSnapshot, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The workers of `names` that may go together, and those that have to stay, each in order."""
    members = {worker.name: worker.members for worker in snapshot.workers}
    leaving: set[tuple[str, str]] = set()
    going: list[str] = []
    staying: list[str] = []
    for name in names:
        more = leaving | set(members.get(name, ()))
        if objections(snapshot, more):
            staying.append(name)
        else:
            going.append(name)
            leaving = more
    return going, staying


def _serves(worker: WorkerView | None) -> bool:
    """Whether nothing known speaks against it: an unknown worker may serve."""
    return worker is None or worker.sample.health not in _NOT_SERVING


def _model(worker: WorkerView | None) -> str | None:
    return worker.sample.model if worker else None

"""A worker that nginx still sends to though it cannot serve, told with what shows it."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, WorkerView

from . import access
from .finding import Finding, Mend, Rule

Cards = dict[tuple[str, int], GpuView]
# What comes from before a connection was made again, or from a systemctl that hangs.
_PARTS = ("units", "workers")


def cards(snapshot: ClusterSnapshot) -> Cards:
    """The cards by node and index, for `dead`."""
    return {
        (gpu.node, gpu.sample.index): gpu
        for gpu in snapshot.gpus
        if gpu.sample.index is not None and gpu.sample.fault is not None
    }


def dead(worker: WorkerView, faulty: Cards) -> str | None:
    """Why the worker cannot serve, as half a sentence; None where it may, or that is not known.

    `faulty` are the cluster's cards that have a fault. What it says is of one moment: a worker
    that is being restarted is dead as well for a while.
    """
    unit, sample = worker.unit, worker.sample
    if worker.unit_fault is not None:
        return worker.unit_fault
    if unit.active_state == "inactive":
        return "its unit is stopped"
    lost = [
        faulty[worker.node, index] for index in worker.gpus or () if (worker.node, index) in faulty
    ]
    if lost and sample.health not in ("ok", "busy"):
        return f"GPU {lost[0].sample.index}: {lost[0].sample.fault}"
    if sample.health == "unreachable":
        return f"it does not answer: {sample.fault or 'no cause is known'}"
    return None


def silent(snapshot: ClusterSnapshot) -> set[str]:
    """The nodes whose workers' figures say nothing now: they, or a part of them, are old.

    One worker that is slow to answer is not among them: it is asked beside that whether it lives.
    """
    return {
        node.name
        for node in snapshot.nodes
        if node.stale or not node.reachable or not node.snapshot.ages.keys().isdisjoint(_PARTS)
    }


def serving_though_dead(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """nginx sends requests to a worker that cannot serve."""
    old = silent(snapshot)
    faulty = cards(snapshot)
    for worker in snapshot.workers:
        if worker.membership not in ("in", "mixed") or worker.node in old:
            continue
        why = dead(worker, faulty)
        if why is not None:
            said = worker.sample.fault
            yield Finding(
                "worker-dead-in-upstream",
                "error",
                worker.name,
                why if not said or said in why else f"{why}: {said}",
                "nginx goes on sending requests to it: they fail or hang",
                f"llamatop drain {worker.name} (d); llamatop logs {worker.name} (l) says why;"
                " undrain (u) once it serves again",
                Mend("drain", (worker.name,)),
            )


def cut_off(snapshot: ClusterSnapshot, node: NodeView) -> tuple[str, ...]:
    """The workers of a node that is silent and that nginx, which runs elsewhere, still sends to.

    None of a node that answers but cannot be read: nginx may well reach its workers. None either
    while the balancer's node is not heard: then it is most likely this side that is cut off.
    """
    if node.reachable or node.fault is None or not node.snapshot.silent:
        return ()
    where = snapshot.balancer_node
    if where == node.name or not any(
        one.name == where and one.reachable and not one.stale for one in snapshot.nodes
    ):
        return ()
    return _serving(snapshot, node.name)


def on_card(snapshot: ClusterSnapshot, gpu: GpuView) -> tuple[str, ...]:
    """The workers on a lost card that nginx still sends to, whatever they say.

    One that only withholds a figure is not lost.
    """
    sample = gpu.sample
    told = sample.utilization_percent is not None or sample.memory_used_bytes is not None
    if sample.fault is None or told or not gpu.workers:
        return ()
    return tuple(name for name in _serving(snapshot, gpu.node) if name in gpu.workers)


def _serving(snapshot: ClusterSnapshot, node: str) -> tuple[str, ...]:
    return tuple(
        worker.name
        for worker in snapshot.workers
        if worker.node == node and worker.membership in ("in", "mixed")
    )


def to_take_out(snapshot: ClusterSnapshot) -> Iterator[tuple[str, ...]]:
    """The workers to take out: first the dead ones, then on lost cards, then of lost nodes.

    For a person, who sees what is old: it may be the systemctl beside the dead one that hangs.
    """
    faulty = cards(snapshot)
    old = {node.name for node in snapshot.nodes if node.stale or not node.reachable}
    yield tuple(
        worker.name
        for worker in snapshot.workers
        if worker.membership in ("in", "mixed")
        and worker.node not in old
        and dead(worker, faulty) is not None
    )
    places = [on_card(snapshot, gpu) for gpu in snapshot.gpus if gpu.node not in old]
    yield tuple(dict.fromkeys(name for names in places for name in names))
    yield tuple(name for node in snapshot.nodes for name in cut_off(snapshot, node))


def lost_node(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A node that was read, or should be, and is not."""
    for node in snapshot.nodes:
        if not node.reachable and node.fault is not None:
            # Why it is not talked to is told by that rule.
            if access.is_host_key(node):
                continue
            serving = cut_off(snapshot, node)
            seen, _, mend = node.fault.partition("; ")
            if serving:
                drain = f"llamatop drain {' '.join(serving)}"
                mend += f"{'; ' if mend else ''}{drain}, if nginx does not reach them either"
            yield Finding(
                "node-lost",
                "error",
                node.name,
                seen,
                "what its workers do is not known, nor whether nginx reaches them",
                mend or "look whether the machine and the network between are up",
                Mend("drain", serving) if serving else None,
            )


def nginx_down(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Nothing spreads the requests, or nothing would after the next start."""
    balancer = snapshot.balancer
    if balancer is None or snapshot.balancer_node is None:
        return
    if balancer.running is False:
        yield Finding(
            "nginx-down",
            "error",
            snapshot.balancer_node,
            "nginx does not run",
            "no request reaches the workers through it",
            "nginx -t tells whether its files are valid; then start its unit (s)",
        )
    elif balancer.config_valid is False:
        yield Finding(
            "nginx-down",
            "error",
            snapshot.balancer_node,
            f"its configuration is invalid: {balancer.config_error or 'nginx -t refuses it'}",
            "it goes on with what it read before; no plan can change members, and a restart fails",
            "correct that; nginx -t tells when it is right",
        )


RULES: tuple[Rule, ...] = (serving_though_dead,)
# What every screen shows anyhow, for those who do not look at one.
HEALTH: tuple[Rule, ...] = (lost_node, nginx_down)

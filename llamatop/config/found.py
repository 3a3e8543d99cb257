"""What was seen of a cluster -> what a file of it should say, and what its comments tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from llamatop.model.cluster import ClusterSnapshot, NodeView, WorkerView
from llamatop.model.declared import Balancer, Cluster, Node, Worker

from . import checks

KEY_VARIABLE = "LLAMA_API_KEY"


def found(snapshot: ClusterSnapshot) -> Cluster:
    """The declared cluster, with what no look can tell or every look would have to find again.

    That is the balancer, and of the workers those that want a key; its variable is named, unset.
    """
    cluster = snapshot.cluster
    nodes = tuple(_with_keys(node, snapshot) for node in cluster.nodes)
    return replace(cluster, nodes=nodes, balancer=cluster.balancer or _balancer(snapshot))


def _with_keys(node: Node, snapshot: ClusterSnapshot) -> Node:
    workers = {worker.unit: worker for worker in node.workers}
    for seen in snapshot.workers:
        unit = checks.with_service(seen.unit.name or seen.sample.unit)
        if (
            seen.node == node.name
            and seen.sample.health == "unauthorized"
            and checks.unit_fault(unit) is None
        ):
            known = workers.get(unit, Worker(unit))
            workers[unit] = replace(known, api_key_env=known.api_key_env or KEY_VARIABLE)
    return replace(node, workers=tuple(workers.values()))


def _balancer(snapshot: ClusterSnapshot) -> Balancer | None:
    """The upstream with the most members that lead to these workers."""
    node = snapshot.balancer_node
    sizes: Counter[str] = Counter()
    for member in snapshot.members:
        sizes[member.upstream] += 1 if member.worker is None else 1000
    usable = [name for name, _ in sizes.most_common() if checks.upstream_fault(name) is None]
    return Balancer(node, usable[0]) if node is not None and usable else None


# --- comments, a line each, without the # ------------------------------------------------------


def of_node(view: NodeView, snapshot: ClusterSnapshot) -> Iterator[str]:
    """Its cards, its workers and its tunnels, or why it could not be read."""
    yield (
        f"{view.name}: {_cards(view.name, snapshot)}"
        if view.reachable
        else f"{view.name} could not be read:"
    )
    if not view.reachable:
        yield f"  {view.fault or 'it did not answer'}"
        return
    workers = [worker for worker in snapshot.workers if worker.node == view.name]
    if not workers:
        yield "  no unit runs llama-server, Ollama or vLLM"
    width = max((len(worker.name) for worker in workers), default=0)
    for worker in workers:
        yield f"  {worker.name:{width}}  {_told(worker)}"
    for tunnel in view.snapshot.tunnels:
        unit = f"  ({tunnel.unit})" if tunnel.unit else ""
        yield f"  -{tunnel.direction} {tunnel.listen} → {tunnel.target} {tunnel.destination}{unit}"


def of_balancer(snapshot: ClusterSnapshot, upstream: str) -> Iterator[str]:
    """The members with what each leads to."""
    members = [member for member in snapshot.members if member.upstream == upstream]
    width = max((len(member.address) for member in members), default=0)
    for member in members:
        down = "  down" if member.state in ("down", "draining") else ""
        yield f"  {member.address:{width}}  → {member.worker or 'not certain'}{down}"
    others = {member.upstream for member in snapshot.members} - {upstream}
    if others:
        yield f"  other upstreams there: {', '.join(sorted(others))}"


def units_of(node: str, snapshot: ClusterSnapshot) -> list[str]:
    """The units of its workers, as one would write them."""
    return [
        worker.unit.name.removesuffix(".service")
        for worker in snapshot.workers
        if worker.node == node and checks.unit_fault(worker.unit.name) is None
    ]


def in_doubt(node: str, snapshot: ClusterSnapshot) -> Iterator[tuple[str, str]]:
    """Unit and sentence of each worker whose server line is not certain."""
    for worker in snapshot.workers:
        name = worker.unit.name
        if worker.node == node and worker.membership_fault and checks.unit_fault(name) is None:
            yield name.removesuffix(".service"), worker.membership_fault


def _cards(node: str, snapshot: ClusterSnapshot) -> str:
    names = Counter(gpu.sample.name or "a card" for gpu in snapshot.gpus if gpu.node == node)
    return ", ".join(f"{count} × {name}" for name, count in names.items()) or "no GPU is known"


def _told(worker: WorkerView) -> str:
    sample = worker.sample
    parts = [sample.engine or "unknown engine", sample.url or ""]
    if worker.gpus:
        parts.append(f"GPU {','.join(map(str, worker.gpus))}")
    if sample.model:
        parts.append(sample.model)
    if sample.health not in ("ok", "busy", None):
        parts.append("wants an API key" if sample.health == "unauthorized" else str(sample.health))
    return "  ".join(part for part in parts if part)

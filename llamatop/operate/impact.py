"""What a unit carries: its server lines, the workers behind them, and the requests in flight."""

from __future__ import annotations

from collections.abc import Iterable

from llamatop.collect.addresses import parse
from llamatop.model.cluster import ClusterSnapshot, WorkerView

from .files import Member
from .targets import Target


def members_of(snapshot: ClusterSnapshot, target: Target) -> tuple[Member, ...]:
    """The server lines that lead through the unit: a worker's own, or those behind a tunnel."""
    if target.worker is not None:
        return target.worker.members
    if target.unit.kind != "tunnel":
        return ()
    ends = set()
    for tunnel in snapshot.node(target.node).snapshot.tunnels:
        listen = parse(tunnel.listen)
        here = tunnel.direction == "R" or target.node == snapshot.balancer_node
        if tunnel.unit == target.unit.name and listen is not None and here:
            ends.add(listen.port)
    found = []
    for member in snapshot.members:
        address = parse(member.address, 80)
        if address is not None and address.loopback and address.port in ends:
            found.append((member.upstream, member.address))
    return tuple(found)


def workers_behind(snapshot: ClusterSnapshot, members: Iterable[Member]) -> list[WorkerView]:
    """The workers known to stand behind server lines, each once."""
    wanted = set(members)
    names = {m.worker for m in snapshot.members if (m.upstream, m.address) in wanted}
    return [worker for worker in snapshot.workers if worker.name in names]


def requests_in_flight(workers: Iterable[WorkerView]) -> int | None:
    """Busy slots plus requests that wait for one; None where that is unknown of any worker."""
    total = 0
    for worker in workers:
        if worker.unit.active_state in ("inactive", "failed"):
            continue
        if worker.slots_busy is None:
            return None
        total += worker.slots_busy + (worker.sample.requests_deferred or 0)
    return total

"""The server lines of nginx's upstreams: who stands there, who does not, and who twice."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import UpstreamMember

from .finding import Finding, Rule
from .servers import model_name

_ANYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  # what others listen on


def nobody(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A server line leads to a port of nginx's machine on which nothing listens."""
    balancer = snapshot.balancer
    if balancer is None or balancer.listening is None:
        return
    listening = frozenset(balancer.listening)
    ours = member_counts(snapshot)
    for line in server_lines(snapshot):
        if line.down or line.upstream not in ours:
            continue
        host, _, port = line.address.rpartition(":")
        hosts = {"localhost": ("127.0.0.1", "[::1]")}.get(host, (host,))
        if not port.isdecimal() or not all(_loopback(one) for one in hosts):
            continue
        if listening.isdisjoint(f"{one}:{port}" for one in (*hosts, *_ANYWHERE)):
            yield Finding(
                "nginx-member-silent",
                "error",
                line_place(snapshot, line.file, line.line),
                f"{line.address} in {line.upstream}: nothing listens there",
                "requests that nginx sends there fail, or wait for another member",
                "start its worker or tunnel, or mark the line down (llamatop drain)",
            )


def unlisted(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A worker serves, but nginx does not know it."""
    balancer = snapshot.cluster.balancer
    sample = snapshot.balancer
    if balancer is None or sample is None or sample.fault is not None:
        return
    served = {
        (worker.sample.engine, model_name(worker))
        for worker in snapshot.workers
        if any(upstream == balancer.upstream for upstream, _ in worker.members)
    }
    for worker in snapshot.workers:
        if worker.membership == "absent" and worker.sample.health in ("ok", "busy"):
            alike = not served or (worker.sample.engine, model_name(worker)) in served
            yield Finding(
                "nginx-worker-unlisted",
                "info",
                worker.name,
                f"{worker.unit.name} answers on {worker.sample.url or 'its port'},"
                f" but stands in no upstream of {balancer.node}",
                "its cards get no request through nginx",
                f"add its server line to upstream {balancer.upstream}"
                if alike
                else f"an upstream of its own: what {balancer.upstream} serves is another model",
            )


def twice(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """One worker stands twice in an upstream."""
    worker_of = {(one.upstream, one.address): one.worker for one in snapshot.members}
    seen: dict[tuple[str, str], UpstreamMember] = {}
    for line in server_lines(snapshot):
        if line.down or (line.upstream, line.address) not in worker_of:
            continue
        worker = worker_of[line.upstream, line.address]
        first = seen.setdefault((line.upstream, worker or line.address), line)
        if first is not line:
            yield Finding(
                "nginx-member-twice",
                "warning",
                line_place(snapshot, line.file, line.line),
                f"{line.address} in {line.upstream} is {worker or 'the same address'},"
                f" as is {first.address} of line {first.line}",
                "it gets twice the requests of its siblings",
                "remove one of the two lines; weight= is for unlike cards",
            )


def member_counts(snapshot: ClusterSnapshot) -> dict[str, int]:
    """The upstreams that concern this cluster, each with its number of members."""
    sizes: dict[str, int] = {}
    for member in snapshot.members:
        sizes[member.upstream] = sizes.get(member.upstream, 0) + 1
    return sizes


def server_lines(snapshot: ClusterSnapshot) -> tuple[UpstreamMember, ...]:
    """All server lines of nginx."""
    return (snapshot.balancer.members or ()) if snapshot.balancer is not None else ()


def line_place(snapshot: ClusterSnapshot, file: str | None, line: int | None) -> str:
    """`node1:/etc/nginx/conf.d/llama.conf:12`."""
    return f"{snapshot.balancer_node}:{file}:{line}"


def _loopback(host: str) -> bool:
    return host == "[::1]" or host.startswith("127.")


RULES: tuple[Rule, ...] = (nobody, unlisted, twice)

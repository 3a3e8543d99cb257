"""nginx in front of token streams: what slows them, cuts them or sends them to the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.balancing import Route
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import UpstreamMember

from .finding import Finding, Rule

LEAST_READ_SECONDS = 300.0
# From this version on keepalive, HTTP/1.1 and no Connection header are nginx's own defaults.
_KEEPS_ALIVE = (1, 29, 7)
# Each spreads by load, or by what the operator chose to stick to.
_BY_LOAD = ("least_conn", "least_time", "random two", "fair")
_CHOSEN = ("ip_hash", "hash", "sticky")
_BUSY_ANSWERS = ("http_429", "http_500", "http_502", "http_503", "http_504")
_ANYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  # what others listen on


def method(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Requests that last minutes are spread in turn, whoever is busy."""
    balancer = snapshot.balancer
    if balancer is None or balancer.proxying is None:
        return
    sizes = _sizes(snapshot)
    for block in balancer.proxying.upstreams:
        if sizes.get(block.name, 0) < 2 or block.method.startswith(_BY_LOAD):
            continue
        chosen = block.method.startswith(_CHOSEN)
        yield Finding(
            "nginx-not-least-conn",
            "info" if chosen else "warning",
            _place(snapshot, block.file, block.line),
            f"upstream {block.name} of {sizes[block.name]} members: {block.method}",
            "a worker with long answers gets new requests while others idle",
            f"write least_conn; as the first line of upstream {block.name}",
        )


def buffering(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Tokens gather in nginx's buffers before the client sees them."""
    for route, place in _written(snapshot, "proxy_buffering"):
        if route.buffering:
            yield Finding(
                "nginx-buffering",
                "warning",
                place,
                f"proxy_buffering on{_default(route, 'proxy_buffering')} to {route.upstream}",
                "a stream's tokens reach the client in lumps of a whole buffer",
                "proxy_buffering off; in that location",
            )


def next_upstream(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """What one worker failed at is sent to another."""
    for route, place in _written(snapshot, "proxy_next_upstream"):
        if "off" in route.next_upstream:
            continue
        again = "non_idempotent" in route.next_upstream
        words = " ".join(route.next_upstream)
        default = _default(route, "proxy_next_upstream")
        yield Finding(
            "nginx-next-upstream",
            "warning" if again else "info",
            place,
            f"proxy_next_upstream {words}{default} to {route.upstream}",
            "a slow or failed request is computed again by another worker: load where it is high"
            if again
            else "a worker that refuses or stalls hides behind the others, which get its requests",
            "proxy_next_upstream off; in that location",
        )


def read_timeout(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """nginx gives up on a worker that works on a long prompt or a queue."""
    for route, place in _written(snapshot, "proxy_read_timeout"):
        given = route.read_timeout_seconds
        if given is not None and given < LEAST_READ_SECONDS:
            default = _default(route, "proxy_read_timeout")
            yield Finding(
                "nginx-read-timeout",
                "warning",
                place,
                f"proxy_read_timeout {given:g} s{default} to {route.upstream}",
                "a request that waits in a queue or on a long prompt sends nothing and is cut",
                f"proxy_read_timeout {LEAST_READ_SECONDS:.0f}s; or more in that location",
            )


def keepalive(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """The upstream keeps connections that its locations close."""
    balancer = snapshot.balancer
    if balancer is None or balancer.proxying is None:
        return
    version = _version(balancer.version)
    kept = {block.name: block for block in balancer.proxying.upstreams if block.keepalive}
    for route in _routes(snapshot):
        block = kept.get(route.upstream)
        if block is None or (route.connection or "").lower() == "keep-alive":
            continue
        wrong = []
        old = version is not None and version < _KEEPS_ALIVE
        if route.http_version == "1.0" or (route.http_version is None and old):
            wrong.append(f"HTTP/1.0{_default(route, 'proxy_http_version')}")
        if route.connection is None and old:
            wrong.append("Connection: close (nginx's default)")
        elif route.connection and "$" not in route.connection:
            wrong.append(f"Connection: {route.connection}")
        if wrong:
            yield Finding(
                "nginx-keepalive-unused",
                "warning",
                _place(snapshot, route.file, route.line),
                f"keepalive {block.keepalive} in upstream {block.name}, but {' and '.join(wrong)}",
                "each request opens a new connection; keepalive is without effect",
                'proxy_http_version 1.1; and proxy_set_header Connection ""; in that location',
            )


def max_fails(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A busy worker's answers count as failures, after which nginx leaves it out."""
    lines: dict[str, list[UpstreamMember]] = {}
    for line in _lines(snapshot):
        if not line.down:
            lines.setdefault(line.upstream, []).append(line)
    told = set()
    for route in _routes(snapshot):
        members = lines.get(route.upstream, [])
        ejected = [line for line in members if line.max_fails != 0]
        counted = [word for word in route.next_upstream if word in _BUSY_ANSWERS]
        given = route.read_timeout_seconds
        if given is not None and given < LEAST_READ_SECONDS:
            counted.append(f"no answer for {given:g} s")
        # nginx never leaves out the only one
        if not ejected or not counted or len(members) < 2 or route.upstream in told:
            continue
        told.add(route.upstream)
        first = ejected[0]
        fails = "1 (nginx's default)" if first.max_fails is None else f"{first.max_fails}"
        yield Finding(
            "nginx-max-fails",
            "warning",
            _place(snapshot, first.file, first.line),
            f"max_fails {fails} on {len(ejected)} of {len(members)} members of {route.upstream};"
            f" failures are: {', '.join(counted)}",
            "nginx leaves a busy worker out, and its load falls on the others",
            "max_fails=0 on these server lines, or no http_… in proxy_next_upstream"
            " and a longer proxy_read_timeout",
        )


def nobody(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A server line leads to a port of nginx's machine on which nothing listens."""
    balancer = snapshot.balancer
    if balancer is None or balancer.listening is None:
        return
    listening = frozenset(balancer.listening)
    ours = _sizes(snapshot)
    for line in _lines(snapshot):
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
                _place(snapshot, line.file, line.line),
                f"{line.address} in {line.upstream}: nothing listens there",
                "requests that nginx sends there fail, or wait for another member",
                "start its worker or tunnel, or mark the line down (llamatop drain)",
            )


def unlisted(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A worker serves, but nginx does not know it."""
    balancer = snapshot.cluster.balancer
    if balancer is None:
        return
    for worker in snapshot.workers:
        if worker.membership == "absent" and worker.sample.health in ("ok", "busy"):
            yield Finding(
                "nginx-worker-unlisted",
                "info",
                worker.name,
                f"{worker.unit.name} answers on {worker.sample.url or 'its port'},"
                f" but stands in no upstream of {balancer.node}",
                "its cards get no request through nginx",
                f"add its server line to upstream {balancer.upstream}",
            )


def twice(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """One worker stands twice in an upstream."""
    worker_of = {(one.upstream, one.address): one.worker for one in snapshot.members}
    seen: dict[tuple[str, str], UpstreamMember] = {}
    for line in _lines(snapshot):
        if line.down or (line.upstream, line.address) not in worker_of:
            continue
        worker = worker_of[line.upstream, line.address]
        first = seen.setdefault((line.upstream, worker or line.address), line)
        if first is not line:
            yield Finding(
                "nginx-member-twice",
                "warning",
                _place(snapshot, line.file, line.line),
                f"{line.address} in {line.upstream} is {worker or 'the same address'},"
                f" as is {first.address} of line {first.line}",
                "it gets twice the requests of its siblings",
                "remove one of the two lines; weight= is for unlike cards",
            )


def unguarded(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Anybody who reaches the machine may use the workers, and everybody between may read."""
    by_name = {worker.name: worker for worker in snapshot.workers}
    open_to_all = {
        member.upstream for member in snapshot.members if _keyless(by_name.get(member.worker or ""))
    }
    told = set()
    for route in _routes(snapshot):
        if route.guarded or route.upstream not in open_to_all:
            continue
        for listen in route.listens:
            place = _place(snapshot, listen.file, listen.line)
            if listen.tls or listen.loopback is not False or place in told:
                continue
            told.add(place)
            yield Finding(
                "nginx-open",
                "warning",
                place,
                f"listen {listen.address} without TLS; no password, address or other check on the"
                f" way to {route.upstream}, whose workers ask for no API key",
                "anybody in that network can use the cards and read the prompts",
                "listen on loopback, or add auth_basic, allow and deny, or an API key; and TLS",
            )


def _keyless(worker: WorkerView | None) -> bool:
    if worker is None:
        return False
    return worker.sample.engine == "ollama" or worker.sample.launch.api_key is False


def _sizes(snapshot: ClusterSnapshot) -> dict[str, int]:
    """The upstreams that concern this cluster, each with its number of members."""
    sizes: dict[str, int] = {}
    for member in snapshot.members:
        sizes[member.upstream] = sizes.get(member.upstream, 0) + 1
    return sizes


def _routes(snapshot: ClusterSnapshot) -> Iterator[Route]:
    """The routes to them."""
    balancer = snapshot.balancer
    if balancer is None or balancer.proxying is None:
        return
    ours = _sizes(snapshot)
    yield from (route for route in balancer.proxying.routes if route.upstream in ours)


def _lines(snapshot: ClusterSnapshot) -> tuple[UpstreamMember, ...]:
    return (snapshot.balancer.members or ()) if snapshot.balancer is not None else ()


def _place(snapshot: ClusterSnapshot, file: str | None, line: int | None) -> str:
    return f"{snapshot.balancer_node}:{file}:{line}"


def _written(snapshot: ClusterSnapshot, directive: str) -> Iterator[tuple[Route, str]]:
    """Each route with where the directive is written, else where requests pass on without it.

    A line that holds for several routes comes with the first of them alone.
    """
    told = set()
    for route in _routes(snapshot):
        place = _place(snapshot, *route.at.get(directive, (route.file, route.line)))
        if place not in told:
            told.add(place)
            yield route, place


def _default(route: Route, directive: str) -> str:
    return "" if directive in route.at else " (nginx's default)"


def _version(written: str | None) -> tuple[int, ...] | None:
    parts = (written or "").split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _loopback(host: str) -> bool:
    return host == "[::1]" or host.startswith("127.")


RULES: tuple[Rule, ...] = (
    method,
    buffering,
    next_upstream,
    read_timeout,
    keepalive,
    max_fails,
    nobody,
    unlisted,
    twice,
    unguarded,
)

"""nginx in front of token streams: what slows them, cuts them or sends them to the wrong place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llamatop.model.balancing import Route
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.observed import UpstreamMember

from .finding import Finding, Rule
from .members import line_place, member_counts, server_lines

LEAST_READ_SECONDS = 300.0
# From this version on keepalive, HTTP/1.1 and no Connection header are nginx's own defaults.
_KEEPS_ALIVE = (1, 29, 7)
# A build of September 2026, some months after llama-server began to (ggml-org/llama.cpp #24774).
_FORBIDS_BUFFERING = 10700
_BUILD = re.compile(r"b?(\d{4,6})\b")
# Up to here nginx sent again what a worker had got already, unless told otherwise.
_SENDS_ONCE = (1, 9, 13)
# Each spreads by load, or by what the operator chose to stick to.
_BY_LOAD = ("least_conn", "least_time", "random two", "fair")
_CHOSEN = ("ip_hash", "hash", "sticky")
_BUSY_ANSWERS = ("http_429", "http_500", "http_502", "http_503", "http_504")


def method(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Requests that last minutes are spread in turn, whoever is busy."""
    balancer = snapshot.balancer
    if balancer is None or balancer.proxying is None:
        return
    sizes = member_counts(snapshot)
    for block in balancer.proxying.upstreams:
        if sizes.get(block.name, 0) < 2 or block.method.startswith(_BY_LOAD):
            continue
        chosen = block.method.startswith(_CHOSEN)
        yield Finding(
            "nginx-not-least-conn",
            "info" if chosen else "warning",
            line_place(snapshot, block.file, block.line),
            f"upstream {block.name} of {sizes[block.name]} members: {block.method}",
            "a worker with long answers gets new requests while others idle",
            f"write least_conn; as the first line of upstream {block.name}",
        )


def buffering(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Tokens gather in nginx's buffers before the client sees them.

    Newer llama-servers forbid that with each stream (X-Accel-Buffering: no), which nginx heeds
    unless it is told to ignore the header.
    """
    forbidden = _unbuffered(snapshot)
    for route, place in _written(snapshot, "proxy_buffering"):
        if route.buffering:
            asked = route.upstream in forbidden
            yield Finding(
                "nginx-buffering",
                "info" if asked else "warning",
                place,
                f"proxy_buffering on{_default(route, 'proxy_buffering')} to {route.upstream}"
                + (", whose llama-servers ask nginx not to for each stream" if asked else ""),
                "an older build, or any other server, would have its tokens held back"
                if asked
                else "a stream's tokens reach the client in lumps of a whole buffer, unless the"
                " server itself asks nginx not to",
                "proxy_buffering off; in that location",
            )


def next_upstream(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """What one worker failed at is sent to another.

    By nginx's source (`ngx_http_upstream_next`): a POST that a worker has got is sent again with
    `non_idempotent` alone, and before 1.9.13 always; one that could not be sent, always.
    """
    version = snapshot.balancer.version if snapshot.balancer is not None else None
    for route, place in _written(snapshot, "proxy_next_upstream"):
        if "off" in route.next_upstream:
            continue
        told = f"proxy_next_upstream {' '.join(route.next_upstream)}"
        told += _default(route, "proxy_next_upstream")
        if _sends_again(snapshot, route):
            old = "non_idempotent" not in route.next_upstream
            yield Finding(
                "nginx-next-upstream",
                "warning",
                place,
                f"{told}{f' in nginx {version}' if old else ''} to {route.upstream}",
                "a prompt that one worker was slow or failed at is computed again by the next",
                "proxy_next_upstream off; in that location"
                + (f", or a newer nginx than {version}" if old else ", or without non_idempotent"),
            )
            continue
        codes = " ".join(word for word in route.next_upstream if word.startswith("http_"))
        yield Finding(
            "nginx-next-upstream",
            "info",
            place,
            f"{told} to {route.upstream}",
            "what a worker refuses to accept goes to the next unseen, so a dead one hides; a POST"
            " that was sent is not sent again" + (f", {codes} holds for GET" if codes else ""),
            "proxy_next_upstream off; in that location gives clients a 502 at once; keep it where"
            " they do not try again by themselves",
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
                line_place(snapshot, route.file, route.line),
                f"keepalive {block.keepalive} in upstream {block.name}, but {' and '.join(wrong)}",
                "each request opens a new connection; keepalive is without effect",
                'proxy_http_version 1.1; and proxy_set_header Connection ""; in that location',
            )


def max_fails(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A busy worker's answers count as failures, after which nginx leaves it out."""
    lines: dict[str, list[UpstreamMember]] = {}
    for line in server_lines(snapshot):
        if not line.down:
            lines.setdefault(line.upstream, []).append(line)
    told = set()
    for route in _routes(snapshot):
        members = lines.get(route.upstream, [])
        ejected = [line for line in members if line.max_fails != 0]
        again = _sends_again(snapshot, route)
        # an answer to a POST that is not sent again is none of nginx's failures
        counted = [word for word in route.next_upstream if again and word in _BUSY_ANSWERS]
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
            line_place(snapshot, first.file, first.line),
            f"max_fails {fails} on {len(ejected)} of {len(members)} members of {route.upstream};"
            f" failures are: {', '.join(counted)}",
            "nginx leaves a busy worker out, and its load falls on the others",
            "max_fails=0 on these server lines, or a longer proxy_read_timeout and no http_…"
            " beside non_idempotent in proxy_next_upstream",
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
            place = line_place(snapshot, listen.file, listen.line)
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


def _routes(snapshot: ClusterSnapshot) -> Iterator[Route]:
    """The routes to them."""
    balancer = snapshot.balancer
    if balancer is None or balancer.proxying is None:
        return
    ours = member_counts(snapshot)
    yield from (route for route in balancer.proxying.routes if route.upstream in ours)


def _written(snapshot: ClusterSnapshot, directive: str) -> Iterator[tuple[Route, str]]:
    """Each route with where the directive is written, else where requests pass on without it.

    A line that holds for several routes comes with the first of them alone.
    """
    told = set()
    for route in _routes(snapshot):
        place = line_place(snapshot, *route.at.get(directive, (route.file, route.line)))
        if place not in told:
            told.add(place)
            yield route, place


def _default(route: Route, directive: str) -> str:
    return "" if directive in route.at else " (nginx's default)"


def _version(written: str | None) -> tuple[int, ...] | None:
    parts = (written or "").split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _unbuffered(snapshot: ClusterSnapshot) -> set[str]:
    """The upstreams all of whose members are llama-servers of builds that forbid buffering."""
    forbid = {
        worker.name
        for worker in snapshot.workers
        if worker.sample.engine == "llama-server"
        and (build := _BUILD.match(worker.sample.build or "")) is not None
        and int(build.group(1)) >= _FORBIDS_BUFFERING
    }
    found = {member.upstream for member in snapshot.members}
    return found - {one.upstream for one in snapshot.members if one.worker not in forbid}


def _sends_again(snapshot: ClusterSnapshot, route: Route) -> bool:
    """Whether a POST that one worker has got may be sent to another."""
    version = _version(snapshot.balancer.version if snapshot.balancer is not None else None)
    return "non_idempotent" in route.next_upstream or (
        version is not None and version < _SENDS_ONCE and "off" not in route.next_upstream
    )


RULES: tuple[Rule, ...] = (
    method,
    buffering,
    next_upstream,
    read_timeout,
    keepalive,
    max_fails,
    unguarded,
)

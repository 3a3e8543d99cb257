"""Which `proxy_pass` leads to which upstream, and what nginx's inheritance makes hold there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llamatop.model.balancing import Listen, Proxying, Route, UpstreamBlock

from .tree import Block, Line, chains, tree

_METHODS = ("least_conn", "least_time", "ip_hash", "hash", "random", "sticky", "fair")
_TARGET = re.compile(r"https?://([^/]+)")
_TIMES = re.compile(r"(\d+)(ms|[yMwdhms]|)\s*")
_SECONDS = {
    "ms": 0.001,
    "s": 1,
    "": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 7 * 86400,
    "M": 30 * 86400,
    "y": 365 * 86400,
}
_REFUSALS = ("401", "403", "404", "444")
# These only say how another directive does it.
_NO_GUARDS = ("auth_basic_user_file", "auth_request_set")


def proxying(files: Mapping[str, bytes], main: str) -> Proxying:
    """The upstreams and routes of the `http` block; see `members` for `files`.

    A `proxy_pass` whose target is a variable leads nowhere that is known, so it is passed over.
    Raises NginxSyntaxError with file and line.
    """
    root = tree(files, main)
    upstreams: list[UpstreamBlock] = []
    routes: list[Route] = []
    for http in root.named("http"):
        upstreams += [_upstream(one) for one in http.named("upstream") if len(one.words) == 2]
    known = {upstream.name.lower() for upstream in upstreams}
    for http in root.named("http"):
        for server in http.named("server"):
            listens = _listens(server)
            for chain in chains((http, server)):
                target = _target(chain[-1].first("proxy_pass"))
                if target is not None and target[0].lower() in known:
                    routes.append(_route(target[0], target[1], chain, listens))
    return Proxying(tuple(upstreams), tuple(routes))


def seconds(written: str) -> float | None:
    """A time as nginx writes it (`600s`, `1h 30m`, `60`), None where it is none."""
    total, end = 0.0, 0
    for match in _TIMES.finditer(written):
        if match.start() != end:
            return None
        total += int(match[1]) * _SECONDS[match[2]]
        end = match.end()
    return total if written and end == len(written) else None


def _upstream(block: Block) -> UpstreamBlock:
    # `sticky` stands beside the method that picks the first one
    methods = [line for line in block.lines if line.words[0] in _METHODS]
    method = min(methods, key=lambda line: _METHODS.index(line.words[0]), default=None)
    keepalive = block.first("keepalive")
    count = keepalive.words[1] if keepalive is not None and len(keepalive.words) > 1 else ""
    return UpstreamBlock(
        block.words[1],
        block.file,
        block.line,
        " ".join(method.words) if method is not None else "round robin",
        int(count) if count.isdecimal() else None,
    )


def _target(line: Line | None) -> tuple[str, Line] | None:
    if line is None or len(line.words) != 2:
        return None
    match = _TARGET.match(line.words[1])
    return (match[1], line) if match is not None and "$" not in match[1] else None


def _route(upstream: str, line: Line, chain: tuple[Block, ...], listens: list[Listen]) -> Route:
    at: dict[str, tuple[str, int]] = {}

    def value(name: str) -> tuple[str, ...] | None:
        for block in reversed(chain):
            found = block.first(name)
            if found is not None:
                at[name] = (found.file, found.line)
                return found.words[1:]
        return None

    buffering = value("proxy_buffering")
    timeout = value("proxy_read_timeout")
    version = value("proxy_http_version")
    return Route(
        upstream=upstream,
        file=line.file,
        line=line.line,
        buffering=buffering != ("off",),
        next_upstream=value("proxy_next_upstream") or ("error", "timeout"),
        read_timeout_seconds=60.0 if timeout is None else seconds(" ".join(timeout)),
        http_version=version[0] if version else None,
        connection=_connection(chain, at),
        guarded=any(_guards(chain)),
        listens=tuple(listens),
        at=at,
    )


def _connection(chain: tuple[Block, ...], at: dict[str, tuple[str, int]]) -> str | None:
    """The Connection header; one header set in a block means that none is inherited there."""
    for block in reversed(chain):
        headers = block.every("proxy_set_header")
        if headers:
            for line in headers:
                if len(line.words) == 3 and line.words[1].lower() == "connection":
                    at["Connection"] = (line.file, line.line)
                    return line.words[2]
            return None
    return None


def _guards(chain: tuple[Block, ...]) -> Iterator[bool]:
    names = {line.words[0] for block in chain for line in block.lines}
    for name in names:
        if name.startswith("auth_") and name not in _NO_GUARDS:
            asked = (block.first(name) for block in reversed(chain))
            nearest = next((line for line in asked if line is not None), None)
            yield nearest is not None and nearest.words[1:2] != ("off",)
    addresses = (block.every("allow", "deny") for block in reversed(chain))
    nearest_rules = next((rules for rules in addresses if rules), [])
    yield any(rule.words[0] == "deny" for rule in nearest_rules)
    shown = (block.first("ssl_verify_client") for block in reversed(chain))
    certificate = next((line for line in shown if line is not None), None)
    yield certificate is not None and certificate.words[1:2] == ("on",)
    yield any(name == "internal" or "_by_lua" in name or name == "js_access" for name in names)
    for block in chain:
        yield any("_by_lua" in inner.words[0] for inner in block.blocks)
        for inner in block.named("if"):
            answer = inner.first("return")
            yield answer is not None and answer.words[1:2] != () and answer.words[1] in _REFUSALS


def _listens(server: Block) -> list[Listen]:
    old = server.first("ssl")
    everywhere = old is not None and old.words[1:2] == ("on",)
    found = []
    for line in server.every("listen"):
        if len(line.words) > 1:
            tls = everywhere or "ssl" in line.words or "quic" in line.words
            address = line.words[1]
            found.append(Listen(address, line.file, line.line, _loopback(address), tls))
    if not found:
        # as nginx does for a server without one, started as root
        found.append(Listen("*:80", server.file, server.line, False, everywhere))
    return found


def _loopback(address: str) -> bool | None:
    if address.startswith("unix:") or address.startswith("[::1]"):
        return True
    host, _, port = address.rpartition(":")
    if not host:
        host = "*" if port.isdecimal() else port
    if host == "localhost" or re.fullmatch(r"127(\.\d+){3}", host):
        return True
    named = re.search(r"[^\d.*:\[\]a-fA-F]", host) or not re.search(r"[\d*:]", host)
    return None if named else False

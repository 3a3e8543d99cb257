"""How nginx passes requests on to its upstreams, as its files say: a reload may still be due."""

from __future__ import annotations

from msgspec import Struct, field


class UpstreamBlock(Struct, frozen=True):
    """One `upstream`; `method` is the balancing directive's name, "round robin" where none is.

    `keepalive` is the idle connections kept, None where the directive is not written.
    """

    name: str
    file: str
    line: int
    method: str = "round robin"
    keepalive: int | None = None


class Listen(Struct, frozen=True):
    """One `listen` of a server, as written; `loopback` is None where a name hides its address."""

    address: str
    file: str
    line: int
    loopback: bool | None = None
    tls: bool = False


class Route(Struct, frozen=True):
    """One `proxy_pass` to an upstream with what holds there, inherited directives included.

    `guarded` tells that not everybody may pass: a password, a sub-request, addresses, a client
    certificate, a refusal by `if`. `http_version` and `connection` (the header sent) are None
    where not written: what nginx does then depends on its version. `connection` with a `$` is
    whatever the variable holds. `at` gives file and line of each directive that is written.
    """

    upstream: str
    file: str
    line: int
    buffering: bool = True
    next_upstream: tuple[str, ...] = ("error", "timeout")
    read_timeout_seconds: float | None = 60.0
    http_version: str | None = None
    connection: str | None = None
    guarded: bool = False
    listens: tuple[Listen, ...] = ()
    at: dict[str, tuple[str, int]] = field(default_factory=dict)


class Proxying(Struct, frozen=True):
    """The upstreams of nginx's `http` block and the routes that lead to them, in file order."""

    upstreams: tuple[UpstreamBlock, ...] = ()
    routes: tuple[Route, ...] = ()

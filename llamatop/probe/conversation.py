"""One worker's endpoint: the engine's conversation held over sockets, and its answer kept."""

from __future__ import annotations

import socket
import time

from llamatop.engines import ENGINES
from llamatop.engines.exchange import Response

from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    from .reactor import Reactor, Timer

    Where = Dict[str, Any]

# how long an answer may take until nobody waits for it
_SLOW_SECONDS = 1.0
# and until the worker is asked beside it whether it lives: that it does not is then known within
# three seconds, the line of the tick after next
_LATE_SECONDS = 0.4
_CHECK_EVERY = 2.0


def address(engine: str, url: str | None, launch: Dict[str, Any], secret: Dict[str, Any]) -> Where:
    """Where the endpoint is: {"host", "ports", "prefix", "url", "fault"}; `url` wins over flags.

    Several ports are tried in turn: the default of llama-server differs between builds.
    """
    where: Where = {"prefix": secret.get("prefix") or "", "fault": None}
    if url:
        scheme, _, rest = url.partition("://") if "://" in url else ("http", "", url)
        authority, slash, path = rest.partition("/")
        where["prefix"] = (slash + path).rstrip("/")
        host, port = _split(authority)
        ports = [port or 80]
        if scheme != "http":
            where["fault"] = "%s is not read; give an http:// url in the cluster file" % url
    else:
        host = str(launch.get("host") or "127.0.0.1")
        given = launch.get("port")
        ports = [given] if given else list(ENGINES[engine].DEFAULT_PORTS)
        if secret.get("tls"):
            where["fault"] = "serves https alone; give an http:// url in the cluster file"
        elif host.endswith(".sock"):
            where["fault"] = "listens on a socket file; give an http:// url in the cluster file"
    where["host"] = _numeric(host)
    where["ports"] = ports
    if where["fault"] is None and where["host"] is None:
        where["fault"] = "%s is a name; give its url with a numeric address" % host
    return where


def _split(authority: str) -> Tuple[str, int]:
    authority = authority.rpartition("@")[2]
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port = rest.lstrip(":")
    else:
        host, _, port = authority.partition(":")
    return host, int(port) if port.isdigit() else 0


def _numeric(host: str) -> str | None:
    """An address to connect to, None for a name that only DNS knows (and DNS can hang)."""
    if host in ("", "0.0.0.0", "*", "localhost", "localhost."):  # noqa: S104
        return "127.0.0.1"
    if host == "::":
        return "::1"
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError, UnicodeError):
            continue
        return host
    return None


class Talk:
    """The conversation with one endpoint, one tick after the other.

    `sample` is what was last known. While an answer is slow its other fields stay, `health` says
    busy or unreachable, and `answered_at` stands still.
    """

    def __init__(self, loop: Reactor, engine: str, where: Where, key: str | None) -> None:
        self.sample: Dict[str, Any] = {}
        self.answered_at: float | None = None
        # When what was last answered had been asked.
        self.asked_at = 0.0
        self.memory: Dict[str, Any] = {"may_sleep": None}
        self._loop = loop
        self._engine = ENGINES[engine]
        self._where = where
        self._key = key
        self._ports: List[int] = list(where["ports"])
        self._connection = self._new_connection()
        self._beside = self._new_connection()
        self._talk: Any = None
        self._check: Any = None
        self._look: Any = None
        self._looks: List[Timer] = []
        self._late: Timer | None = None
        self._began = 0.0
        self._checked_at = 0.0
        # Whether nothing came of the last read in all the time it had.
        self._gave_up = False
        self.url = self._url()

    def _new_connection(self) -> Connection:
        return Connection(self._loop, self._where["host"] or "127.0.0.1", self._ports[0])

    def _url(self) -> str:
        host = self._where["host"] or "127.0.0.1"
        return "http://%s:%d%s" % (
            "[%s]" % host if ":" in host else host,
            self._ports[0],
            self._where["prefix"],
        )

    def same(self, where: Where, key: str | None) -> bool:
        """Whether this talk is with that endpoint and key."""
        return self._where == where and self._key == key

    @property
    def settled(self) -> bool:
        """Whether it has answered, or is so slow that nobody should wait for it."""
        return self._talk is None or time.monotonic() - self._began > _SLOW_SECONDS

    def start(self, now: float) -> bool:
        """Begin a tick; True where the endpoint was just found to be silent."""
        if self._where["fault"] is not None:
            self.sample = {"health": "error", "fault": self._where["fault"]}
            return False
        self._look_no_more()
        if self._talk is None:
            was = self.sample.get("health")
            self._began = now
            self._talk = self._engine.read(self.memory, self._key is not None)
            self._step(None)
            if self._talk is not None:
                self._late = self._loop.at(now + _LATE_SECONDS, self._ask_beside)
            return was == "unreachable"
        self._ask_beside()
        return False

    def _ask_beside(self) -> None:
        """Ask on a connection of its own whether the worker lives, where its answer is late."""
        now = time.monotonic()
        late = self._talk is not None and now - self._began >= _LATE_SECONDS
        if late and self._check is None and now - self._checked_at >= _CHECK_EVERY:
            self._checked_at = now
            self._check = self._engine.check(self.memory)
            self._step_check(None)

    def wanted(self, interval: float) -> int:
        """How many glances until the next tick would tell more than the ticks alone."""
        if not hasattr(self._engine, "glance") or self._talk is not None:
            return 0
        if (self.sample.get("latency_seconds") or 0.0) > interval / 10:
            # builds until mid-2026 answer after the step under way; asking more would queue
            return 0
        return int(self._engine.wanted(self.memory, interval))

    def glance_at(self, moment: float) -> None:
        """Look at the slots at that moment, where nothing else is under way by then."""
        if moment > time.monotonic():
            self._looks.append(self._loop.at(moment, self._glance))

    def _glance(self) -> None:
        if self._talk is None and self._look is None:
            self._look = self._engine.glance(self.memory)
            self._step_look(None)

    def _step_look(self, response: Response | None) -> None:
        try:
            request = self._look.send(response)
        except StopIteration:
            self._look = None
            self._connection.close()
            return
        self._connection.ask(request, self._key, self._where["prefix"], self._step_look)

    def _not_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _look_no_more(self) -> None:
        for timer in self._looks:
            timer.cancel()
        self._looks = []
        if self._look is not None:
            self._look = None
            self._connection.close()

    def _step(self, response: Response | None) -> None:
        try:
            request = self._talk.send(response and response.veil(self._key))
        except StopIteration as end:
            self._ended(end.value)
            return
        except Exception as error:
            self._ended({"health": "error", "fault": "its answer broke the reader: %r" % error})
            return
        self._connection.ask(request, self._key, self._where["prefix"], self._step)

    def _ended(self, sample: Dict[str, Any]) -> None:
        self._talk = None
        self._not_late()
        # held open, it would hold one of the server's few HTTP threads
        self._connection.close()
        if self._check is not None:
            self._check = None
            self._beside.close()
        if sample.get("health") == "unreachable" and len(self._ports) > 1:
            self._ports.append(self._ports.pop(0))
            self._connection = self._new_connection()
            self._beside = self._new_connection()
            self.url = self._url()
        latency: float = sample.get("latency_seconds") or 0.0
        before: float = self.sample.get("latency_seconds") or 0.0
        if latency and before and abs(latency - before) < max(0.002, 0.5 * before):
            # jitter of a millisecond is not worth its bytes
            sample["latency_seconds"] = before
        self.sample = sample
        self._gave_up = sample.get("health") == "unreachable"
        self.asked_at = self._began
        self.answered_at = time.monotonic()

    def _step_check(self, response: Response | None) -> None:
        try:
            request = self._check.send(response and response.veil(self._key))
        except StopIteration as end:
            self._check = None
            self._beside.close()
            # Who let a whole read go by is not busy again because the next one has begun.
            if self._talk is not None and not (self._gave_up and end.value["health"] == "busy"):
                sample = dict(self.sample)
                sample.pop("fault", None)
                sample.update(end.value)
                self.sample = sample
            return
        self._beside.ask(request, self._key, self._where["prefix"], self._step_check)

    def close(self) -> None:
        """Give up what is under way."""
        self._look_no_more()
        self._not_late()
        self._talk = self._check = None
        self._connection.close()
        self._beside.close()

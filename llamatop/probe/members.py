"""Who answers behind an upstream's address: read through the balancer's own way to it.

Asked only for addresses that this side is not sure of, and never of a server that sleeps.
"""

from __future__ import annotations

import json

from llamatop.engines.exchange import Request

from .connection import Connection
from .conversation import address as numeric

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from llamatop.engines.exchange import Response

    from .reactor import Reactor

_AGAIN_SECONDS = 30.0
_RETRY_SECONDS = 5.0
_MOST = 256


class Member:
    """One address; `identity` is what its /metrics calls the start of the process, None unknown."""

    def __init__(self, loop: Reactor, host: str, port: int) -> None:
        self.identity: str | None = None
        self.reads = 0
        self._due = 0.0
        self._asking = False
        self._connection = Connection(loop, host, port)

    def start(self, now: float) -> None:
        """Ask, if it is time: /props first, since /metrics may keep a server from sleeping."""
        if not self._asking and now >= self._due:
            self._asking = True
            self._due = now + _RETRY_SECONDS
            self._connection.ask(Request("GET", "/props", 3.0), None, "", self._props)

    def _props(self, response: Response) -> None:
        try:
            sleeping = json.loads(response.body).get("is_sleeping") if response.body else True
        except (ValueError, AttributeError, RecursionError):
            sleeping = True
        if response.error is not None or response.status != 200 or sleeping:
            self._end()
            return
        self._connection.ask(Request("GET", "/metrics", 3.0), None, "", self._metrics)

    def _metrics(self, response: Response) -> None:
        started = response.headers.get("process-start-time-unix") if not response.error else None
        if response.status == 200 and started:
            self.identity = started
            self.reads += 1
            self._due += _AGAIN_SECONDS - _RETRY_SECONDS
        self._end()

    def _end(self) -> None:
        self._asking = False
        # held open, it would hold one of the server's few HTTP threads
        self._connection.close()

    def close(self) -> None:
        """Give up what is under way."""
        self._connection.close()


class Members:
    """The addresses that are asked for, as host:port with a numeric host."""

    def __init__(self, loop: Reactor) -> None:
        self._loop = loop
        self._members: Dict[str, Member] = {}

    def configure(self, addresses: List[Any]) -> None:
        """Ask these and no others; one that comes back is read anew."""
        wanted = [one for one in addresses if isinstance(one, str)][:_MOST]
        for gone in [one for one in self._members if one not in wanted]:
            self._members.pop(gone).close()
        for one in wanted:
            where = numeric("llama-server", "http://" + one, {}, {})
            if one not in self._members and where["host"] is not None and "/" not in one:
                self._members[one] = Member(self._loop, where["host"], where["ports"][0])

    def start(self, now: float) -> None:
        """Ask those whose time has come."""
        for member in self._members.values():
            member.start(now)

    def sample(self) -> Dict[str, Any] | None:
        """By address {"identity", "reads"}; None while nothing is known."""
        found = {
            address: {"identity": member.identity, "reads": member.reads}
            for address, member in self._members.items()
            if member.identity is not None
        }
        return found or None

    def close(self) -> None:
        """Give up everything."""
        self.configure([])

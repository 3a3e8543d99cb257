"""One HTTP question and its answer, as the engines' conversations pass them to a driver.

Python 3.8 and the standard library only: the probe runs this on nodes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any, Dict

    Sample = Dict[str, Any]
    Memory = Dict[str, Any]
    Conversation = Generator["Request", "Response", Sample]

BODY_LIMIT_BYTES = 4 * 2**20


class Request:
    """A question to a worker; `timeout_seconds` is how long its answer may take in all."""

    __slots__ = ("method", "path", "timeout_seconds")

    def __init__(self, method: str, path: str, timeout_seconds: float = 3.0) -> None:
        self.method = method
        self.path = path
        self.timeout_seconds = timeout_seconds

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.path!r})"


class Response:
    """An answer, or in `error` one clause that says why there is none (`status` is then 0).

    Header names are lower case. `seconds` is the time from sending to the last byte. `at_seconds`
    is the monotonic clock of the machine that read it when the last byte came, None where the
    driver does not say. A body past BODY_LIMIT_BYTES is an error. `refused` tells that nothing
    listens there, `timed_out` that the time ran out before the last byte.
    """

    __slots__ = (
        "at_seconds",
        "body",
        "error",
        "headers",
        "refused",
        "seconds",
        "status",
        "timed_out",
    )

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        error: str | None = None,
        seconds: float = 0.0,
        at_seconds: float | None = None,
        refused: bool = False,
        timed_out: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.error = error
        self.seconds = seconds
        self.at_seconds = at_seconds
        self.refused = refused
        self.timed_out = timed_out

    def veil(self, key: str | None) -> Response:
        """The same, without the key where an answer that is not 200 quotes it: its words are shown.

        Figures of a good answer stay as they are, whatever word was chosen for a key.
        """
        if key and self.status != 200:
            self.body = self.body.replace(key.encode("utf-8"), b"***")
            self.error = self.error.replace(key, "***") if self.error else self.error
        return self

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes, error={self.error!r})"

"""One worker asked without a socket: the engine's own conversation, held within this process."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from llamatop.engines import ENGINES
from llamatop.engines.exchange import Request, Response

from .web import JSON, Exchange, Headers, WebServer

# A request over loopback takes about this long; as the probe has it, jitter is not worth telling.
LATENCY_SECONDS = 0.0012
SLOW_SECONDS = 0.8
CHECK_EVERY = 2.0
REFUSED = "connection refused"


class Asked(Exchange):
    """A question whose answer is kept."""

    brief = True

    def __init__(self, request: Request, key: str | None) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        super().__init__(request.method, request.path, headers, b"")
        self.response: Response | None = None

    async def answer(
        self, status: int, body: bytes | str, kind: str = JSON, headers: Headers = ()
    ) -> None:
        """Keep it."""
        data = body.encode() if isinstance(body, str) else body
        named = {"content-type": kind} | {name.lower(): value for name, value in headers}
        self.response = Response(status, named, data)

    def cut(self) -> None:
        """The server closed the connection."""
        self.response = Response(0, {}, b"", "closed the connection without an answer")


class Asking:
    """The probe's talk with one process: `tick` gives what is known of it then.

    While an answer is slow its figures stay, `health` says busy or unreachable, and `answered_at`
    (on the monotonic clock, as `asked_at`, when that was asked) stands still.
    """

    def __init__(self, web: WebServer, engine: str, where: dict[str, Any], key: str | None) -> None:
        self.answered_at: float | None = None
        self.asked_at = 0.0
        self.memory: dict[str, Any] = {"may_sleep": False}
        self.sample: dict[str, Any] = {}
        self._web = web
        self._engine = ENGINES[engine]
        self._fault: str | None = where["fault"]
        self._key = key
        self._talk: Any = None
        self._request: Request | None = None
        self._began = self._sent_at = self._checked_at = 0.0
        self._at = host, port = where["host"] or "127.0.0.1", where["ports"][0]
        host = f"[{host}]" if ":" in host else host
        self.url = f"http://{host}:{port}{where['prefix']}"

    def tick(self, now: float) -> None:
        """Ask what a tick asks; what is known then lies in `sample`."""
        if self._fault is not None:
            self.sample = {"health": "error", "fault": self._fault}
        elif self._talk is None:
            self._talk = self._engine.read(self.memory, self._key is not None)
            self._began = now
            self._step(None)
        else:
            self._go_on()
            slow = self._talk is not None and now - self._began >= SLOW_SECONDS
            if slow and now - self._checked_at >= CHECK_EVERY:
                self._checked_at = now
                self._check()

    def _step(self, response: Response | None) -> None:
        """Go from question to question until the end, or until one is not answered."""
        while True:
            try:
                request: Request = self._talk.send(response and response.veil(self._key))
            except StopIteration as end:
                self._talk = self._request = None
                self.sample = end.value
                self.asked_at, self.answered_at = self._began, time.monotonic()
                return
            self._request, self._sent_at = request, time.monotonic()
            response = self._ask(request)
            if response is None:
                return

    def _go_on(self) -> None:
        """Look whether the open question has its answer by now, or has run out of time."""
        request = self._request
        assert request is not None
        response = self._ask(request)
        waited = time.monotonic() - self._sent_at
        if response is None and waited >= request.timeout_seconds:
            text = f"no answer within {request.timeout_seconds:g} s"
            response = Response(0, {}, b"", text, timed_out=True)
        if response is not None:
            response.seconds = waited
            self._step(response)

    def _check(self) -> None:
        talk: Any = self._engine.check(self.memory)
        try:
            request = next(talk)
            response = self._ask(request)
            if response is not None:
                talk.send(response)
        except StopIteration as end:
            sample = dict(self.sample)
            sample.pop("fault", None)
            sample.update(end.value)
            self.sample = sample

    def _ask(self, request: Request) -> Response | None:
        """The worker's answer; None where it keeps the caller waiting."""
        web = self._web
        if web.server is None or self._at != (web.host, web.port or web.bound_port):
            response: Response | None = Response(0, {}, b"", REFUSED, refused=True)
        else:
            asked = Asked(request, self._key)
            answering = self._web.handler(asked)
            with contextlib.suppress(StopIteration):
                answering.send(None)
            answering.close()
            response = asked.response
        if response is not None:
            response.seconds = LATENCY_SECONDS
            response.at_seconds = time.monotonic()
        return response

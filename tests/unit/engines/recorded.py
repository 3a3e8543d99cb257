"""Recorded answers in place of a server: a path leads to the bytes that a real one sent."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

from llamatop.engines.exchange import Request, Response

CASES = Path(__file__).parents[2] / "cases"
LLAMA = "llama_server/build-10068/"


def response(name: str, at: float = 1000.0) -> Response:
    """A captured answer as a Response."""
    sent = (CASES / f"{name}.http").read_bytes()
    parsed = HTTPResponse(_Socket(sent))  # type: ignore[arg-type]  # makefile is all it calls
    parsed.begin()
    headers = {header.lower(): value for header, value in parsed.getheaders()}
    return Response(parsed.status, headers, parsed.read(), seconds=0.002, at_seconds=at)


class _Socket:
    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._sent)


class Server:
    """Answers each path from a case and remembers what was asked; other paths are 404."""

    def __init__(self, answers: Mapping[str, str | Response]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def talk(self, conversation: Generator[Request, Response, dict[str, Any]]) -> dict[str, Any]:
        """Hold one conversation to its end."""
        answer: Response | None = None
        while True:
            try:
                request = conversation.send(answer)  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                return end.value
            assert request.method == "GET"
            self.asked.append(request.path)
            found = self.answers.get(request.path, LLAMA + "not-found")
            answer = response(found) if isinstance(found, str) else found


TIMED_OUT = Response(0, {}, b"", "no answer within 30 s", timed_out=True)
REFUSED = Response(0, {}, b"", "connection refused", refused=True)

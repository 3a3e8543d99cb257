"""Workers read by HTTP from here, for nodes without ssh: one bounded exchange at a time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

import httpx

from llamatop.engines.exchange import BODY_LIMIT_BYTES, Request, Response

CONNECT_TIMEOUT_SECONDS: Final = 3.0


class HttpReader:
    """One origin; the key goes to it and nowhere else.

    A connection is closed behind each answer: a kept one holds a thread of a small server.

    `base_url` is `http://host:port` with or without a path; `key` is sent as a bearer token.
    Environment proxies, cookies and redirects are not followed.
    """

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"accept": "*/*", "accept-encoding": "identity"}
        self._key = key
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._client: httpx.AsyncClient | None = None

    async def exchange(self, request: Request) -> Response:
        """Ask and read the whole answer; never raises, `error` is one clause where there is none.

        `seconds` counts from sending to the last byte, `at_seconds` is `time.monotonic()` then.
        """
        started = time.monotonic()
        status, headers, body = 0, dict[str, str](), b""
        error: str | None = None
        refused = timed_out = False
        try:
            async with asyncio.timeout(request.timeout_seconds):
                status, headers, body, error = await self._ask(request)
        except (TimeoutError, httpx.TimeoutException):
            timed_out = True
            error = f"no answer within {request.timeout_seconds:g} s"
        except httpx.ConnectError as failure:
            refused = any(isinstance(cause, ConnectionRefusedError) for cause in _causes(failure))
            error = _connect_error(failure)
        except httpx.RemoteProtocolError as failure:
            error = _protocol_error(str(failure))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failure:
            error = f"the connection broke ({str(failure) or type(failure).__name__})"
        ended = time.monotonic()
        return Response(
            status=0 if error else status,
            headers=headers,
            body=b"" if error else body,
            error=error,
            seconds=ended - started,
            at_seconds=ended,
            refused=refused,
            timed_out=timed_out,
        ).veil(self._key)

    async def _ask(self, request: Request) -> tuple[int, dict[str, str], bytes, str | None]:
        if not request.path.startswith("/"):
            raise ValueError("a path begins with /")
        if self._client is None:
            self._client = _client(self._headers)
        timeout = httpx.Timeout(
            request.timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, request.timeout_seconds)
        )
        url = self._base + request.path
        async with self._client.stream(request.method, url, timeout=timeout) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            body = bytearray()
            async for chunk in answer.aiter_raw(2**16):
                body += chunk
                if len(body) > BODY_LIMIT_BYTES:
                    return (
                        0,
                        headers,
                        b"",
                        f"the answer is larger than {BODY_LIMIT_BYTES >> 20} MiB",
                    )
            if answer.headers.get("content-encoding", "identity") != "identity":
                return 0, headers, b"", "the answer is compressed though that was not asked for"
            return answer.status_code, headers, bytes(body), None

    async def close(self) -> None:
        """Close the connections; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _client(headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=headers,
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=0),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, one for each address that was tried among them."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for member in seen.exceptions:
                yield from _causes(member)
        seen = seen.__cause__ or seen.__context__


def _connect_error(error: httpx.ConnectError) -> str:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return f"the host name does not resolve ({cause.strerror})"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS ({cause.reason or cause}): try http://"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "the connection is refused: nothing listens there"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return f"it cannot be reached ({cause.strerror})"
    return f"it cannot be reached ({error})"


def _protocol_error(text: str) -> str:
    if "disconnected without" in text:
        return "it closed the connection without a whole answer"
    if "peer closed connection" in text or "incomplete" in text:
        return "the answer ended half-way"
    return f"it does not speak HTTP ({text})"

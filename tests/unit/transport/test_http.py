"""Direct HTTP against real sockets that behave as badly as they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llamatop.engines.exchange import BODY_LIMIT_BYTES, Request, Response
from llamatop.transport.http import HttpReader

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(handler: Handler, path: str = "/", timeout: float = 2.0) -> Response:
    async with serving(handler) as port:
        reader = HttpReader(f"http://127.0.0.1:{port}/")
        response = await reader.exchange(Request("GET", path, timeout))
        await reader.close()
        return response


def saying(data: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return handler


async def test_answers_with_the_key_and_keeps_no_connection_open() -> None:
    seen: list[bytes] = []
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Busy\r\nX-Thing: A\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(handler) as port:
        reader = HttpReader(f"http://127.0.0.1:{port}", key="s3cret")
        first = await reader.exchange(Request("GET", "/slots?x=1"))
        second = await reader.exchange(Request("POST", "/props"))
        await reader.close()
        await reader.close()
    assert (first.status, first.body, first.error) == (503, b"{}", None)
    assert first.headers["x-thing"] == "A"
    assert first.seconds > 0
    assert first.at_seconds is not None
    assert second.status == 503
    assert connections == 2
    assert seen[0].startswith(b"GET /slots?x=1 HTTP/1.1\r\n")
    assert seen[1].startswith(b"POST /props HTTP/1.1\r\n")
    assert all(
        b"\r\nauthorization: Bearer s3cret\r\n" in head.lower().replace(b"bearer", b"Bearer")
        for head in seen
    )


async def test_the_key_goes_nowhere_else() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\n"
        response = await ask(saying(moved.encode() + b"Content-Length: 0\r\n\r\n"))
        assert response.status == 302
        reader = HttpReader("http://127.0.0.1:1", key="s3cret")
        for path in (f"http://127.0.0.1:{other}/", f"@127.0.0.1:{other}/"):
            assert (await reader.exchange(Request("GET", path))).error
        assert (await reader.exchange(Request("GET", f"//127.0.0.1:{other}/"))).refused
        await reader.close()


async def test_an_error_that_quotes_the_key_does_not_show_it() -> None:
    quoting = b'HTTP/1.1 401 No\r\nContent-Length: 17\r\n\r\n{"error":"s3cret"'
    for answer in (quoting, b"HTTP/9 s3cret\r\n\r\n"):
        async with serving(saying(answer)) as port:
            reader = HttpReader(f"http://127.0.0.1:{port}", key="s3cret")
            response = await reader.exchange(Request("GET", "/slots"))
            await reader.close()
        assert "***" in response.body.decode() + (response.error or "")
        assert "s3cret" not in response.body.decode() + (response.error or "")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert (await ask(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))).status == 200


async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def blurting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (saying(b""), "without a whole answer"),
        (saying(b"SSH-2.0-OpenSSH_9\r\n\r\n"), "does not speak HTTP"),
        (saying(b"\x00\xff" * 100), "does not speak HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "ended half-way"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"), "compressed"),
        (forever, "larger than 4 MiB"),
    ],
)
async def test_bad_answers_are_one_clause(handler: Handler, error: str) -> None:
    response = await ask(handler)
    assert response.error is not None
    assert error in response.error
    assert (response.status, response.body) == (0, b"")
    assert not response.timed_out


@pytest.mark.parametrize("handler", [silent, dripping])
async def test_the_time_out_counts_the_whole_answer(handler: Handler) -> None:
    response = await ask(handler, timeout=0.2)
    assert response.error == "no answer within 0.2 s"
    assert response.timed_out
    assert 0.15 < response.seconds < 10


async def test_a_body_of_the_limit_passes() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {BODY_LIMIT_BYTES}\r\n\r\n".encode()
    response = await ask(saying(head + b"x" * BODY_LIMIT_BYTES))
    assert response.error is None
    assert len(response.body) == BODY_LIMIT_BYTES


async def test_no_connection() -> None:
    async with serving(silent) as port:
        pass
    reader = HttpReader(f"http://localhost:{port}")
    response = await reader.exchange(Request("GET", "/"))
    assert response.refused
    assert response.error == "the connection is refused: nothing listens there"
    await reader.close()
    reader = HttpReader("http://no-such-host.invalid:80")
    response = await reader.exchange(Request("GET", "/"))
    assert response.error is not None
    assert "does not resolve" in response.error
    await reader.close()
    async with serving(blurting) as port:
        reader = HttpReader(f"https://127.0.0.1:{port}")
        response = await reader.exchange(Request("GET", "/"))
        assert response.error is not None
        assert "TLS" in response.error
        await reader.close()


async def test_cancelling_ends_at_once_and_the_reader_goes_on() -> None:
    async with serving(silent) as port:
        reader = HttpReader(f"http://127.0.0.1:{port}")
        task = asyncio.create_task(reader.exchange(Request("GET", "/", 60)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await reader.exchange(Request("GET", "/", 0.1))).timed_out
        await reader.close()

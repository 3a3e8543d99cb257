"""Busy llama-servers for the probe's benchmark: real bodies, figures that move at every read."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases" / "llama_server" / "build-10068"


class Worker(asyncio.Protocol):
    """One connection; slots 1 to 3 of the captured answer generate, slot 0 is made to as well."""

    reads = 0

    def __init__(self, bodies: dict[bytes, bytes]) -> None:
        self._bodies = bodies
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while b"\r\n\r\n" in self._waiting:
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            body = self._bodies[head.split(None, 2)[1]]
            Worker.reads += 1
            # a request of each worker ends every fourth tick; its slots move at every one
            moved = Worker.reads if b"n_decoded" in body else Worker.reads // 64 * 64
            body = body.replace(b"12345", b"%d" % (1000 + moved % 9000))
            for place, mark in enumerate(_FAST):
                if mark in body:
                    body = self._short_requests(body, place, mark)
            answer = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nProcess-Start-Time-Unix: 1452371896"
            answer += b"\r\nContent-Type: application/json; charset=utf-8"
            answer += b"\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(answer + body)

    def _short_requests(self, body: bytes, place: int, mark: bytes) -> bytes:
        """Requests of 50 to 400 tokens, one after another, at 250 tokens a second."""
        passed = int(250 * time.monotonic()) + 57 * place
        turn, generated = divmod(passed, 450)
        task, length = 2 * turn, 50 + (turn * 7919 + place * 131) % 351
        if generated >= length:
            task, generated, length = task + 1, generated - length, 450 - length
        figures = (b'"id_task":%d,' % (900_000 + 8 * task + place), generated, length - generated)
        fields = b'%s"n_prompt_tokens":%d,' % (figures[0], 33 + generated)
        return (
            body.replace(mark, fields)
            .replace(b'"n_decoded":%d777' % place, b'"n_decoded":%d' % generated)
            .replace(b'"n_remain":%d777' % place, b'"n_remain":%d' % figures[2])
        )


_FAST = [b'"fast":%d,' % place for place in range(4)]


def _fast(slots: bytes) -> bytes:
    """The same slots, marked to be filled with requests that fit between two ticks."""
    parts = slots.split(b'{"id":')
    for place, part in enumerate(parts[1:]):
        part = re.sub(rb'"id_task":\d+,', _FAST[place], part)
        part = re.sub(rb'"n_prompt_tokens":\d+,', b"", part)
        for name in (b"n_decoded", b"n_remain"):
            part = re.sub(b'"%s":\\d+' % name, b'"%s":%d777' % (name, place), part)
        parts[place + 1] = part
    return b'{"id":'.join(parts)


def _bodies(fast: bool) -> dict[bytes, bytes]:
    def body(name: str) -> bytes:
        return (CASES / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]

    busy = body("slots-busy")
    start = busy.index(b'{"id":1')
    first = busy[start : busy.index(b',{"id":2')].replace(b'"id":1,', b'"id":0,')
    slots = b"[" + first + b"," + busy[start:]
    for number in (108, 109):
        slots = slots.replace(b'"n_decoded":%d' % number, b'"n_decoded":12345')
    for number in (191, 192):
        slots = slots.replace(b'"n_remain":%d' % number, b'"n_remain":12345')
    for number in (140, 141):
        slots = slots.replace(b'"n_prompt_tokens":%d' % number, b'"n_prompt_tokens":12345')
    # a server that has run for some hours
    for number in (0, 2, 3):
        slots = slots.replace(b'"id_task":%d,' % number, b'"id_task":%d,' % (987_650 + number))
    if fast:
        slots = _fast(slots)
    metrics = body("metrics-busy").replace(b"predicted_total 0", b"predicted_total 12345")
    return {b"/props": body("props"), b"/metrics": metrics, b"/slots": slots}


async def main(count: int, fast: bool) -> None:
    """Serve on `count` free ports, printed on one line; `fast` with ever new short requests."""
    bodies = _bodies(fast)
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Worker(bodies), "127.0.0.1") for _ in range(count)]
    print(*[server.sockets[0].getsockname()[1] for server in servers], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), "fast" in sys.argv))

"""The client's sockets against servers of every kind."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.engines.exchange import BODY_LIMIT_BYTES, Request, Response
from llamatop.probe import connection
from llamatop.probe.connection import Connection
from llamatop.probe.reactor import Reactor

from .server import Worker, captured, kept


@pytest.fixture
def loop() -> Reactor:
    return Reactor()


def ask(loop: Reactor, client: Connection, path: str, seconds: float = 3.0) -> Response:
    answers: list[Response] = []
    client.ask(Request("GET", path, seconds), None, "", answers.append)
    until = time.monotonic() + seconds + 2
    while not answers and time.monotonic() < until:
        loop.turn(until)
    assert answers, "it never called back"
    return answers[0]


def test_questions_share_a_connection_that_is_kept(loop: Reactor, worker: Worker) -> None:
    worker.answers = {path: kept(answer) for path, answer in worker.answers.items()}
    client = Connection(loop, "127.0.0.1", worker.port)
    for path in ("/metrics", "/slots", "/props"):
        assert ask(loop, client, path).status == 200
    assert worker.connections == 1
    client.close()


def test_a_closed_connection_is_made_again(loop: Reactor, worker: Worker) -> None:
    client = Connection(loop, "127.0.0.1", worker.port)
    for _ in range(3):
        assert ask(loop, client, "/slots").status == 200
    assert worker.connections == 3
    client.close()


def test_a_connection_cut_while_it_was_idle_is_no_fault(loop: Reactor, worker: Worker) -> None:
    # no word of closing, and closed all the same
    worker.answers["/x"] = b"HTTP/1.1 200 OK\r\nX-Then: close\r\nContent-Length: 2\r\n\r\nok"
    client = Connection(loop, "127.0.0.1", worker.port)
    for _ in range(5):
        assert ask(loop, client, "/x").body == b"ok"
    assert worker.connections == 5
    client.close()


def test_a_real_chunked_answer_is_put_together(loop: Reactor, worker: Worker) -> None:
    worker.answers["/c"] = captured("router-slots-loaded")
    response = ask(loop, Connection(loop, "127.0.0.1", worker.port), "/c")
    assert response.status == 200
    assert response.body.startswith(b'[{"id":0')
    assert response.body.endswith(b"]")


LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"
MANY = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 6
)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (LARGE, "larger than 4 MiB"),
        (MANY, "larger than 4 MiB"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BODY_LIMIT_BYTES + 1), "larger than 4 MiB"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000, "endless headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nConnection: close\r\n\r\n", "not speak HTTP"),
        (b"HTTP/1.1 banana\r\n\r\n", "does not speak HTTP"),
        (b"Connection: close", "does not speak HTTP"),
    ],
)
def test_what_is_no_answer_is_named(
    loop: Reactor, worker: Worker, answer: bytes, word: str
) -> None:
    worker.answers["/x"] = answer
    client = Connection(loop, "127.0.0.1", worker.port)
    response = ask(loop, client, "/x")
    assert response.status == 0
    assert word in (response.error or "")
    client.close()


def test_nothing_is_named_when_time_is_up(loop: Reactor, worker: Worker) -> None:
    worker.hang = {"/x"}
    began = time.monotonic()
    response = ask(loop, Connection(loop, "127.0.0.1", worker.port), "/x", 0.3)
    assert response.timed_out
    assert response.error == "no answer within 0.3 s"
    assert 0.25 < time.monotonic() - began < 10


def test_a_closed_port_is_refused(loop: Reactor) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    response = ask(loop, Connection(loop, "127.0.0.1", port), "/x")
    assert response.refused
    assert response.error == "connection refused"


@given(
    st.lists(
        st.binary()
        | st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"ffffffff\r\n",
                b"abc",
            ]
        )
    )
)
def test_any_bytes_in_any_pieces_give_an_answer_or_a_clause(pieces: list[bytes]) -> None:
    reading = connection._Reading()
    for piece in [*(piece for piece in pieces if piece), b""]:
        error = reading.feed(piece)
        if error is not None:
            assert isinstance(error, str)
            return
        if reading.complete:
            assert 100 <= reading.status <= 999
            assert len(reading.body()) <= BODY_LIMIT_BYTES
            return
    raise AssertionError("neither complete nor an error at the end of the stream")

"""Asking through a member who answers there: once, and never a server that sleeps."""

from __future__ import annotations

import re

import pytest

from llamatop.probe import bundle

from .node import FakeNode
from .server import Worker, captured

pytestmark = pytest.mark.slow


def identity(answer: bytes) -> str:
    found = re.search(rb"(?i)process-start-time-unix: *(\d+)", answer)
    assert found is not None
    return found[1].decode()


def test_the_identity_is_read_through_the_address_and_not_again_and_again(
    node: FakeNode, worker: Worker
) -> None:
    running = node.start()
    try:
        running.until(lambda document: document.get("tick"))
        address = f"127.0.0.1:{worker.port}"
        running.send(bundle.members([address]))
        document = running.until(lambda document: document.get("members"))
        assert document["members"][address]["identity"] == identity(captured("metrics-busy"))
        for _ in range(8):
            running.until(lambda document: True)
        assert worker.asked == ["/props", "/metrics"]
        running.send(bundle.members([]))
        running.until(lambda document: "members" not in document)
    finally:
        running.close()


def test_a_sleeping_server_is_left_asleep(node: FakeNode, worker: Worker) -> None:
    body = b'{"is_sleeping": true}'
    worker.answers["/props"] = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    )
    running = node.start()
    try:
        running.send(bundle.members([f"127.0.0.1:{worker.port}"]))
        running.until(lambda document: worker.asked)
        for _ in range(8):
            running.until(lambda document: True)
        assert worker.asked == ["/props"]
        assert "members" not in running.document
    finally:
        running.close()


def test_addresses_that_are_none_and_silent_ones_hurt_nothing(
    node: FakeNode, worker: Worker
) -> None:
    worker.hang.add("/props")
    running = node.start()
    try:
        running.send(
            bundle.members(["", "unix:/run/x.sock", "name.example:1", "[::1]:1", "127.0.0.1:x/y"])
        )
        running.send(bundle.members([f"127.0.0.1:{worker.port}", "127.0.0.1:1"]))
        before = running.document.get("tick", 0)
        running.until(lambda document: document["tick"] > before + 8)
        assert "members" not in running.document
    finally:
        running.close()

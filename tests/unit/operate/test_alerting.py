"""Alerts reach the events, the bell, a command and a webhook; what fails is told once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llamatop.model.declared import Alerts
from llamatop.operate.alerting import Alerting
from tests.unit.operate.fakes import FakeCluster, FakeSource

GPU1 = "node2/gpu1"


class Hook:
    """A webhook that keeps what it is sent and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                hook.got.append(json.loads(self.rfile.read(size)))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/s3cret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@asynccontextmanager
async def running(
    cluster: FakeCluster, alerts: Alerts, bell: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    task = asyncio.create_task(Alerting(FakeSource(cluster), alerts, bell).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


def of_the_dead(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["state"], one["place"]) for one in told if one["id"] == "worker-dead-in-upstream"]


async def test_a_dead_member_rings_and_is_sent_and_so_is_its_end(
    tmp_path: Path, hook: Hook
) -> None:
    cluster, rung = FakeCluster.two_by_two(), [0]
    out = tmp_path / "out"
    alerts = Alerts(("sh", "-c", f"cat >> {out}"), hook.url)

    def bell() -> None:
        rung[0] += 1

    async with running(cluster, alerts, bell):
        cluster.workers[GPU1].active = "failed"
        await until(lambda: of_the_dead(hook.got))
        cluster.workers[GPU1].active = "active"
        await until(lambda: len(of_the_dead(hook.got)) == 2)
    assert of_the_dead(hook.got) == [("raised", GPU1), ("cleared", GPU1)]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert of_the_dead(lines) == of_the_dead(hook.got)
    first = next(one for one in lines if one["id"] == "worker-dead-in-upstream")
    assert first["cluster"] == "fake"
    assert first["evidence"] == "its unit failed, last result exit-code"
    assert list(first) == [
        *("at", "cluster", "state", "id", "severity", "place", "evidence", "why", "mend")
    ]
    assert rung[0] >= 1
    events = [event for event in cluster.events if event.worker == GPU1]
    assert [event.severity for event in events] == ["error", "info"]


async def test_a_webhook_that_fails_is_told_once_and_never_by_its_address(hook: Hook) -> None:
    cluster = FakeCluster.two_by_two()
    hook.status = 500
    async with running(cluster, Alerts(webhook=hook.url)):
        for active, number in (("failed", 1), ("active", 2), ("failed", 3)):
            cluster.workers[GPU1].active = active
            await until(lambda n=number: len(of_the_dead(hook.got)) >= n)  # type: ignore[misc]
    told = [event.text for event in cluster.events if "not sent on" in event.text]
    assert told == ["alerts are not sent on: the webhook answered with HTTP 500"]
    assert "s3cret" not in repr(Alerts(webhook=hook.url))


async def test_a_command_that_is_not_there_is_told_once() -> None:
    cluster = FakeCluster.two_by_two()
    async with running(cluster, Alerts(("/nonexistent/pager",))):
        cluster.workers[GPU1].active = "failed"
        await until(lambda: any("not sent on" in event.text for event in cluster.events))
        cluster.workers[GPU1].active = "active"
        await until(lambda: any("is over" in event.text for event in cluster.events))
    told = [event.text for event in cluster.events if "not sent on" in event.text]
    assert told == ["alerts are not sent on: /nonexistent/pager: no such file or directory"]

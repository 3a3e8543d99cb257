"""Alerts reach the events, the bell, a command and a webhook; what fails is told once."""

from __future__ import annotations

import json
import logging
import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr

from llamatop.advise.alarms import CLEAR_LOOKS
from llamatop.advise.doctor import Diagnosis, judge
from llamatop.advise.finding import Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Alerts, Cluster
from llamatop.operate.alerting import Alerting
from llamatop.transport import delivery
from tests.unit.operate.beside import running, until
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


def alerting(
    cluster: FakeCluster, alerts: Alerts, bell: Callable[[], None] = lambda: None
) -> AbstractAsyncContextManager[None]:
    return running(Alerting(FakeSource(cluster), alerts, bell).run())


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

    async with alerting(cluster, alerts, bell):
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
    async with alerting(cluster, Alerts(webhook=hook.url)):
        for active, number in (("failed", 1), ("active", 2), ("failed", 3)):
            cluster.workers[GPU1].active = active
            await until(lambda n=number: len(of_the_dead(hook.got)) >= n)  # type: ignore[misc]
    told = [event.text for event in cluster.events if "not sent on" in event.text]
    assert told == ["alerts are not sent on: the webhook answered with HTTP 500"]
    alerts = Alerts(webhook=hook.url)
    # the second is what a crash shows
    assert "s3cret" not in repr(alerts) + pretty_repr(Cluster("c", (), alerts=alerts))


@pytest.mark.parametrize("status", [204, 302, 500])
async def test_what_is_sent_on_leaves_no_address_in_any_log(
    hook: Hook, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    hook.status = status
    caplog.set_level(logging.DEBUG)
    fault = await delivery.to_webhook(hook.url, b"{}")
    assert (fault is None) is (status == 204)
    assert hook.got == [{}]
    assert "s3cret" not in f"{caplog.text} {fault}"


async def test_a_command_that_is_not_there_is_told_once() -> None:
    cluster = FakeCluster.two_by_two()
    async with alerting(cluster, Alerts(("/nonexistent/pager",))):
        cluster.workers[GPU1].active = "failed"
        await until(lambda: any("not sent on" in event.text for event in cluster.events))
        cluster.workers[GPU1].active = "active"
        await until(lambda: any("is over" in event.text for event in cluster.events))
    told = [event.text for event in cluster.events if "not sent on" in event.text]
    assert told == ["alerts are not sent on: /nonexistent/pager: no such file or directory"]


async def test_a_proxy_that_httpx_cannot_use_is_told_and_ends_no_alerting(
    monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    cluster = FakeCluster.two_by_two()
    monkeypatch.setenv("ALL_PROXY", "odd://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with alerting(cluster, Alerts(webhook=hook.url)):
        cluster.workers[GPU1].active = "failed"
        await until(lambda: any("not sent on" in event.text for event in cluster.events))
        cluster.workers[GPU1].active = "active"
        await until(lambda: any("is over" in event.text for event in cluster.events))
    (told,) = [event.text for event in cluster.events if "not sent on" in event.text]
    assert told.startswith("alerts are not sent on: the webhook cannot be reached (")
    assert "s3cret" not in told


async def test_a_command_that_cannot_be_made_is_told() -> None:
    fault = await delivery.to_command(("page\0me",), b"")
    assert fault is not None
    assert "ValueError" in fault


@pytest.mark.slow
async def test_a_command_that_hangs_ends_with_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(delivery, "DELIVERY_SECONDS", 1.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # a child holds the pipe open for as long as it lives
        command = f"sleep 300 > {pipe} & echo began > {tmp_path / 'began'}; wait"
        assert "did not end" in str(await delivery.to_command(("sh", "-c", command), b""))
        assert (tmp_path / "began").exists()
        end = select.poll()
        end.register(reading, 0)
        assert end.poll(30_000) == [(reading, select.POLLHUP)]
    finally:
        os.close(reading)


async def test_a_command_under_way_ends_with_llamatop(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = ("sh", "-c", f"echo $$ > {told}; exec sleep 300")
    async with running(_sent(command)):
        await until(lambda: told.exists() and told.read_text().endswith("\n"))
        pid = int(told.read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def _sent(command: tuple[str, ...]) -> None:
    await delivery.to_command(command, b"")


async def test_while_a_rule_fails_nothing_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, looks = FakeCluster.two_by_two(), [0]
    breaks = False

    def judging(snapshot: ClusterSnapshot, rules: Sequence[Rule]) -> Diagnosis:
        looks[0] += 1
        return Diagnosis(faults=("it broke",)) if breaks else judge(snapshot, rules)

    monkeypatch.setattr("llamatop.operate.alerting.judge", judging)
    # a quick look costs nothing here
    monkeypatch.setattr("llamatop.operate.alerting._SHARE", 1e9)
    async with alerting(cluster, Alerts()):
        cluster.workers[GPU1].active = "failed"
        await until(lambda: any(event.worker == GPU1 for event in cluster.events))
        breaks, begun = True, looks[0]
        await until(lambda: looks[0] > begun + 3 * CLEAR_LOOKS)
    assert not [event.text for event in cluster.events if "is over" in event.text]


async def test_what_old_units_hide_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, ticks = FakeCluster.two_by_two(), [0]
    monkeypatch.setattr("llamatop.operate.alerting._SHARE", 1e9)
    dead = "node1/gpu1"
    async with alerting(cluster, Alerts()):
        cluster.workers[dead].active = "failed"
        await until(lambda: any(event.worker == dead for event in cluster.events))
        cluster.ages = {"units": 5.0}
        cluster.ticks = [lambda: ticks.append(0)] * (6 * CLEAR_LOOKS)
        await until(lambda: not cluster.ticks)
    assert not [event.text for event in cluster.events if "is over" in event.text]

"""What goes on beside the dashboard and watch: alerts are heard there, and faults told."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.app.app import LlamatopApp
from llamatop.cli import dashboard, watch
from llamatop.cli.beside import alerting, draining
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Alerts, Cluster, Node
from tests.unit.operate.beside import until
from tests.unit.operate.fakes import FakeCluster, FakeFleet, FakeSource

# Port 9 (discard) refuses at once: a node that is lost from the beginning.
LOST = Cluster("c", (Node("edge", url="http://127.0.0.1:9"),), interval_seconds=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("read_only", "drains"), [(True, False), (False, True)])
async def test_the_dashboard_rings_and_tells_of_a_finding_that_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read_only: bool, drains: bool
) -> None:
    rung: list[LlamatopApp] = []
    monkeypatch.setattr(LlamatopApp, "bell", lambda app: rung.append(app))
    out = tmp_path / "out"
    alerts = Alerts(("sh", "-c", f"cat >> {out}"))
    app = dashboard.composed(
        replace(LOST, alerts=alerts), theme=None, read_only=read_only, drains=drains
    )

    def errors() -> list[str]:
        told = app.snapshot.events
        return [event.text for event in told if (event.severity, event.node) == ("error", "edge")]

    async with app.run_test():
        await until(lambda: out.exists() and out.read_text().endswith("\n"))
        await until(errors)
        if drains:
            await until(
                lambda: any("auto-drain is on" in event.text for event in app.snapshot.events)
            )
        settled = app.snapshot.tick
        await until(lambda: app.snapshot.tick > settled + 5)
        assert len(errors()) == 1
    assert rung == [app]
    sent = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["state"], one["id"]) for one in sent] == [("raised", "node-lost")]


@pytest.mark.slow
async def test_watch_rings_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        heard = io.StringIO()
        monkeypatch.setattr(heard, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", heard)
        cluster = replace(LOST, alerts=Alerts())
        async with asyncio.timeout(30):
            await watch._watch(cluster, None, as_json=False, count=8, drains=False)
        assert heard.getvalue().count("\a") == terminal


class Breaking(FakeSource):
    """A source whose readers all fail."""

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        raise RuntimeError("boom")
        yield


async def test_what_ends_by_a_fault_is_told() -> None:
    cluster = FakeCluster.two_by_two()
    source = Breaking(cluster)

    def told() -> list[str]:
        return [event.text for event in cluster.events if event.severity == "error"]

    async with alerting(source, replace(source.cluster, alerts=Alerts())):
        await until(told)
    operator = cluster.operator(Path("/nonexistent/audit"))
    async with draining(source, operator, FakeFleet(cluster)):
        await until(lambda: len(told()) > 1)
    assert [text.partition(":")[0] for text in told()] == [
        "alerts have ended by a fault of llamatop itself (RuntimeError",
        "auto-drain has ended by a fault of llamatop itself (RuntimeError",
    ]

"""What every command that reads a live cluster is composed of."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from llamatop.cli.reading import opened
from llamatop.errors import NodeError
from llamatop.model.cluster import Event
from llamatop.model.declared import Cluster, Node, Worker

# Port 9 (discard) refuses at once; nothing here needs an answer.
NOWHERE = Node("edge", url="http://127.0.0.1:9", workers=(Worker("a.service", api_key_env="NONE"),))


async def test_a_key_that_is_missing_is_an_event_for_every_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NONE", raising=False)
    told: list[Event] = []
    async with (
        asyncio.timeout(30),
        opened(Cluster("c", (NOWHERE,)), told.append) as (collector, machines),
        aclosing(collector.snapshots()) as snapshots,
    ):
        while not any("NONE is not set" in event.text for event in collector.latest.events):
            await anext(snapshots)
        assert ["NONE is not set" in event.text for event in told] == [True]
        with pytest.raises(NodeError):
            machines.machine("edge")

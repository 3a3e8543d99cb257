"""`discover` where not everything was read: nothing half is written as if it were the whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import llamatop.transport.ssh  # noqa: F401 - or the collector imports it in real time
from llamatop import config
from llamatop.cli import interrupt, reading
from llamatop.cli.main import main
from llamatop.collect import resolve
from llamatop.model.declared import Cluster
from llamatop.record.reader import Recording
from tests.unit.collect import virtual
from tests.unit.collect.fakes import (
    Document,
    FakeMachine,
    FakeMachines,
    refused,
    ticking,
    unit,
    worker,
)

UNIT = "llama-server-gpu0.service"


def whole(tick: int) -> Document:
    return {"units": {UNIT: unit()}, "workers": {UNIT: worker(at=float(tick))}}


def slow(tick: int) -> Document:
    """As a probe tells it whose first systemctl has not answered."""
    return {"units": {}, "workers": {}, "pending": ["units"]}


class Machines(FakeMachines):
    async def close(self) -> None:
        pass


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the machine of each name is; no time passes while they are read."""
    machines: dict[str, dict[str, Any]] = {}

    def made(cluster: Cluster) -> Machines:
        return Machines(*(FakeMachine(one.name, **machines[one.name]) for one in cluster.nodes))

    async def addresses(cluster: Cluster) -> AsyncGenerator[tuple[str, frozenset[str]], None]:
        for node in cluster.nodes:
            yield node.name, resolve.names(node)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reading, "Machines", made)
    monkeypatch.setattr(resolve, "addresses", addresses)
    monkeypatch.setattr(interrupt, "run", virtual.run)
    return machines


@pytest.mark.parametrize("interval", ["1", "60"])
def test_what_was_read_whole_is_written(
    nodes: dict[str, dict[str, Any]], tmp_path: Path, interval: str
) -> None:
    nodes["a"] = {"probe": ticking(whole)}
    path, kept = tmp_path / "c.toml", tmp_path / "c.rec"
    words = ["discover", "a", "--interval", interval, "-o", str(path), "--record", str(kept)]
    assert main(words) == 0
    assert "a/gpu0" in path.read_text()
    assert config.load(path).interval_seconds == float(interval)
    assert Recording(kept).complete


def test_a_node_that_was_not_read_whole_is_said_and_1(
    nodes: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes |= {"a": {"probe": ticking(whole)}, "b": {"probe": ticking(slow)}}
    path = tmp_path / "c.toml"
    assert main(["discover", "a", "b", "-o", str(path)]) == 1
    assert "b: it answers so slowly that it was not read whole" in capsys.readouterr().err
    text = path.read_text()
    assert "a/gpu0" in text
    assert "# b could not be read:" in text
    assert "no unit runs" not in text


def test_where_none_was_read_whole_nothing_is_written(
    nodes: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes |= {"a": {"refuse": refused("a")}, "b": {"probe": ticking(slow)}}
    path = tmp_path / "c.toml"
    assert main(["discover", "a", "b", "-o", str(path)]) == 1
    assert "b: it answers so slowly" in capsys.readouterr().err
    assert not path.exists()
    assert main(["discover", "a", "-o", str(path)]) == 3
    assert not path.exists()

"""`recover` from a script: status 0 only where nothing is left drained."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamatop.cli import change, reading
from llamatop.errors import PlanFailed, Refused
from llamatop.model.observed import LeftDrained
from tests.unit.operate.fakes import CONF, FakeCluster, FakeFleet, FakeSource


class Settled(FakeSource):
    def settled(self, node: str) -> bool:
        return True


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """node1/gpu0 and node2/gpu0 were left drained; every command reads this cluster."""
    fake = FakeCluster.two_by_two()
    addresses = ("127.0.0.1:37081", "127.0.0.1:37083")
    for address in addresses:
        line = f"server {address}".encode()
        fake.files[CONF] = fake.files[CONF].replace(line, line + b" down")
    fake.left = tuple(
        LeftDrained("llama_cluster", address, "p1", "ann@laptop", "roll *", 12)
        for address in addresses
    )

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[tuple[Any, Any]]:
        yield Settled(fake), FakeFleet(fake)

    async def settled(source: Settled) -> object:
        return source.latest

    monkeypatch.setattr(reading, "opened", opened)
    monkeypatch.setattr(reading, "settled", settled)
    monkeypatch.setattr(change, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return fake


async def recover(cluster: FakeCluster, *workers: str, **options: bool) -> int:
    parser = argparse.ArgumentParser()
    change.add_asking(parser)
    words = ["--yes", *(f"--{name.replace('_', '-')}" for name in options)]
    args = parser.parse_args(words)
    args.command, args.workers = "recover", list(workers or "*")
    return await change._change(cluster.declared(), args)


def drained(cluster: FakeCluster) -> list[str]:
    return [address for address, down in cluster.states().items() if down]


def stopped(cluster: FakeCluster, name: str) -> None:
    cluster.workers[name].active = "inactive"


def uncertain(cluster: FakeCluster, name: str) -> None:
    cluster.workers[name].certain = False


async def test_with_nothing_left_there_is_nothing_to_do(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await recover(cluster) == 0
    assert drained(cluster) == []
    assert "nothing to do" not in capsys.readouterr().out
    assert await recover(cluster) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scene", "says"),
    [
        (stopped, "{} stays drained: it does not run (inactive); start it, then undrain it"),
        (uncertain, "stays drained: it is not certain which worker it leads to; undrain it by"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
async def test_what_cannot_go_back_now_is_status_1_with_the_reason(
    cluster: FakeCluster,
    capsys: pytest.CaptureFixture[str],
    scene: Callable[[FakeCluster, str], None],
    says: str,
    dry: bool,
) -> None:
    names = ("node1/gpu0", "node2/gpu0")
    for name in names:
        scene(cluster, name)
    with pytest.raises(PlanFailed) as caught:
        await recover(cluster, **({"dry_run": True} if dry else {}))
    assert caught.value.exit_code == 1
    for name in names:
        assert says.format(name) in str(caught.value)
    assert "nothing to do" not in capsys.readouterr().out
    assert len(drained(cluster)) == 2


async def test_the_others_go_back_all_the_same(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(cluster, "node1/gpu0")
    with pytest.raises(PlanFailed, match=r"^node1/gpu0 stays drained: it does not run") as caught:
        await recover(cluster, json=True)
    assert drained(cluster) == ["127.0.0.1:37081"]
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["error"]) == (False, str(caught.value))
    assert told["plan"]["stays"] == [str(caught.value)]
    assert [result["state"] for result in told["results"]] == ["done", "done"]


async def test_a_node_that_does_not_answer_is_a_refusal_that_names_what_stays(
    cluster: FakeCluster,
) -> None:
    cluster.silent.add("node2")
    with pytest.raises(Refused, match="node2/gpu0 stays drained: node2 does not answer"):
        await recover(cluster, "node2/*")
    assert len(drained(cluster)) == 2
    with pytest.raises(PlanFailed, match=r"^node2/gpu0 stays drained: node2 does not answer"):
        await recover(cluster)
    assert drained(cluster) == ["127.0.0.1:37083"]

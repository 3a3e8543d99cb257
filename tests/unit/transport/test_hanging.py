"""Nodes that hang in every way there is, and one that does not: it pays nothing for the others."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from llamatop.collect.collector import Collector
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Cluster, Node
from llamatop.transport.machines import Machines

from .conftest import World
from .sshd import silent_port

pytestmark = pytest.mark.slow

EACH = 5
LONG_SECONDS = 60
NOWHERE = "nowhere.invalid"


@pytest.fixture
def hanging_dns(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A resolver that never answers for one name."""
    over = threading.Event()
    ask = socket.getaddrinfo

    def hang(host: Any, *rest: Any, **more: Any) -> Any:
        if host == NOWHERE:
            over.wait(LONG_SECONDS)
            raise socket.gaierror(socket.EAI_AGAIN, "over")
        return ask(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield over
    over.set()


async def reached(collector: Collector, node: str) -> ClusterSnapshot:
    async with aclosing(collector.snapshots()) as snapshots:
        async for snapshot in snapshots:
            if snapshot.node(node).reachable:
                return snapshot
    raise AssertionError("the snapshots ended")


async def test_nodes_that_hang_cost_the_others_nothing(
    world: World, tmp_path: Path, hanging_dns: threading.Event
) -> None:
    with ExitStack() as ports:
        names = []
        for number in range(EACH):
            mute = ports.enter_context(silent_port())
            babbling = ports.enter_context(silent_port(b"SSH-2.0-x\r\n" + b"\0" * 4))
            for name, port in ((f"mute{number}", mute), (f"half{number}", babbling)):
                names.append(name)
                world.host(name, "HostName 127.0.0.1", f"Port {port}", "ConnectTimeout 60")
            names.append(f"lost{number}")
            world.host(names[-1], f"HostName {NOWHERE}", "ConnectTimeout 60")
        # It lets people in, and the program there never says a word.
        world.server("stuck", extra="ForceCommand sleep 600")
        world.server("well")
        names += ["stuck", "well"]
        cluster = Cluster(
            "hanging",
            tuple(Node(name, name) for name in names),
            path=tmp_path / "cluster.toml",
            ssh_config=world.config,
            known_hosts=world.known_hosts,
        )
        machines = Machines(cluster)
        async with asyncio.timeout(LONG_SECONDS):
            async with Collector(cluster, machines) as collector:
                snapshot = await reached(collector, "well")
                others = [node for node in snapshot.nodes if node.name != "well"]
                assert not any(node.reachable for node in others)
                waiting = [node.name for node in others if node.fault is None]
                assert {name for name in names if name.startswith(("mute", "lost", "stuck"))} <= (
                    set(waiting)
                ), "it was not the last to be waited for"
                before = snapshot.tick
                while collector.latest.tick < before + 3:
                    await asyncio.sleep(0.05)
                assert collector.latest.node("well").age_seconds < 2 * LONG_SECONDS
            await machines.close()

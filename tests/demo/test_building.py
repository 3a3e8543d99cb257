"""What the demo builds of machines of any kind, and unit files of any kind that come to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamatop.demo import unit_disk
from llamatop.demo.embedded import EmbeddedCluster
from llamatop.demo.listening import free_subnet
from llamatop.demo.shape import (
    LARGE,
    WORKER_PORT,
    ClusterShape,
    NodeShape,
    WorkerShape,
    layer_split,
    per_gpu,
)


@asynccontextmanager
async def built(directory: Path, *nodes: NodeShape) -> AsyncIterator[EmbeddedCluster]:
    subnet, listeners = free_subnet(len(nodes))
    placed = tuple(
        NodeShape(node.name, f"{subnet}.{place}", node.cards, node.workers, ssh=node.ssh)
        for place, node in enumerate(nodes, 1)
    )
    cluster = EmbeddedCluster(ClusterShape("any", placed, "node1"), listeners, directory, seed=1)
    cluster.build()
    try:
        yield cluster
    finally:
        for machine in cluster.machines.values():
            machine.stop()
        for control in cluster.controls.values():
            control.stop()
        cluster.clean()


def node(name: str, workers: tuple[WorkerShape, ...], ssh: bool = True) -> NodeShape:
    return NodeShape(name, "", 2, workers, ssh=ssh)


async def test_a_balancer_has_no_tunnel_to_itself(tmp_path: Path) -> None:
    async with built(tmp_path, node("node1", layer_split(2))) as cluster:
        assert cluster.machines["node1"].tunnels == []


async def test_ports_for_workers_to_come_lead_to_split_llama_servers_by_ssh(
    tmp_path: Path,
) -> None:
    vllm = WorkerShape("vllm-qwen.service", 8000, (0, 1), LARGE, engine="vllm")
    nodes = (
        node("node1", per_gpu(2)),
        node("node2", layer_split(2)),
        node("node3", (vllm,)),
        node("node4", layer_split(2), ssh=False),
    )
    async with built(tmp_path, *nodes) as cluster:
        led = {t.destination: len(t.forwards) for t in cluster.machines["node1"].tunnels}
        assert led == {"node2": 3, "node3": 1}
        ports = [f.port for t in cluster.machines["node1"].tunnels for f in t.forwards]
        assert len(set(ports)) == len(ports)
        assert min(ports) >= WORKER_PORT + 2


@pytest.mark.parametrize(
    "text", ["", "[Service]\nExecStart=/usr/local/bin/llama-server\n", "[Service]\nExecStart=\n"]
)
async def test_a_unit_file_that_says_little_is_no_worker(tmp_path: Path, text: str) -> None:
    async with built(tmp_path, node("node1", per_gpu(2))) as cluster:
        machine = cluster.machines["node1"]
        before = set(machine.units)
        (machine.root / "etc/systemd/system/bare.service").write_text(text)
        unit_disk.look(machine)
        assert set(machine.units) == before


async def test_what_is_no_file_keeps_no_other_unit_from_being_seen(tmp_path: Path) -> None:
    async with built(tmp_path, node("node1", per_gpu(2))) as cluster:
        machine = cluster.machines["node1"]
        folder = machine.root / "etc/systemd/system"
        text = (folder / "llama-server-gpu0.service").read_text()
        (folder / "a-folder.service").mkdir()
        (folder / "a-link.service").symlink_to("/nowhere")
        (folder / "llama-server-new.service").write_text(text)
        before = set(machine.units)
        unit_disk.look(machine)
        assert set(machine.units) - before == {"llama-server-new.service"}

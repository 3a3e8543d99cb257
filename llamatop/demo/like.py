"""The shape of somebody's cluster file, to be embedded instead of the plain one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llamatop import config
from llamatop.model.declared import Cluster, Node
from llamatop.model.observed import Engine

from . import shape
from .shape import LARGE, SMALL, ClusterShape, NodeShape, WorkerShape

CARDS = 2
SPANNING = ("split", "tensor", "layer", "large", "70b", "72b", "32b")
ENGINE_PORTS: dict[Engine, int] = {"ollama": 11434, "vllm": 8000}
KEY = "demo"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many addresses a cluster file needs, and the file."""

    cluster: Cluster
    jump: bool

    @property
    def addresses(self) -> int:
        """One a node, and one for the jump host."""
        return len(self.cluster.nodes) + int(self.jump)


def read(path: Path) -> Plan:
    """Load the file; a jump host is added where its ssh_config names one. Raises ConfigError."""
    cluster = config.load(path)
    jump = False
    if cluster.ssh_config is not None:
        try:
            text = cluster.ssh_config.read_text(errors="replace")
        except OSError:
            text = ""  # It is not needed here: the demo writes its own.
        jump = "proxyjump" in text.lower()
    return Plan(cluster, jump)


def embed(plan: Plan, subnet: str) -> ClusterShape:
    """The same nodes, units and balancer on loopback addresses; what it leaves open is chosen."""
    cluster = plan.cluster
    nodes = tuple(
        _node(node, index, shape.address(subnet, index)) for index, node in enumerate(cluster.nodes)
    )
    balancer = cluster.balancer
    return ClusterShape(
        cluster.name,
        nodes,
        balancer.node if balancer else None,
        balancer.upstream if balancer else shape.UPSTREAM,
        shape.address(subnet, len(nodes)) if plan.jump else None,
    )


def _node(node: Node, index: int, address: str) -> NodeShape:
    if node.ssh is None:
        port = urlsplit(node.url or "").port or 8080
        worker = WorkerShape("llama-server.service", port, (0,))
        return NodeShape(node.name, address, 1, (worker,), ssh=False)
    if node.units or node.workers or not index % 2:
        workers = _workers(node)
    else:
        workers = list(shape.layer_split(CARDS))
    cards = max((card + 1 for worker in workers for card in worker.cards), default=0)
    return NodeShape(node.name, address, cards, tuple(workers), units=node.units)


def _workers(node: Node) -> list[WorkerShape]:
    """The workers that the file names, and one a card for a glob or where it names none."""
    declared = {worker.unit: worker for worker in node.workers}
    globs = [name for name in node.units if "*" in name]
    names = [_full(name) for name in node.units if not any(mark in name for mark in "*?[")]
    if globs or not names:
        pattern = globs[0] if globs else "llama-server-gpu*"
        names += [_full(pattern.replace("*", str(card))) for card in range(CARDS)]
    workers: list[WorkerShape] = []
    taken: set[int] = set()
    card = 0
    for name in dict.fromkeys([*names, *declared]):
        engine: Engine = next(
            (kind for kind in ENGINE_PORTS if name.startswith(kind)), "llama-server"
        )
        spans = any(word in name.lower() for word in SPANNING)
        told = declared.get(name)
        port = (urlsplit(told.url).port if told and told.url else None) or ENGINE_PORTS.get(engine)
        if port is None or port in taken:
            port = max([shape.WORKER_PORT - 1, *taken]) + 1
        taken.add(port)
        variable = told.api_key_env if told else None
        span = (card, card + 1) if spans else (card,)
        card += len(span)
        workers.append(
            WorkerShape(
                name,
                port,
                span,
                LARGE if spans else SMALL,
                engine=engine,
                key=os.environ.get(variable, KEY) if variable else None,
                key_variable=variable,
            )
        )
    return workers


def _full(name: str) -> str:
    return name if name.endswith(".service") else f"{name}.service"

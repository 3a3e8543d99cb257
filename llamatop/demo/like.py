"""The shape of somebody's cluster file, to be embedded instead of the plain one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llamatop import config
from llamatop.model.declared import Cluster, Node
from llamatop.model.observed import Engine

from . import shape
from .shape import LARGE, OTHER, SMALL, ClusterShape, Model, NodeShape, WorkerShape

CARDS = 2
LARGE_WORDS = ("large", "70b", "72b", "32b")
SPANNING = ("split", "tensor", "layer", *LARGE_WORDS)
ENGINE_PORTS: dict[Engine, int] = {"ollama": 11434, "vllm": 8000}
KEY = "demo"


class Plan(Struct, frozen=True):
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
    """The same nodes, units and balancer on loopback addresses; what it leaves open is chosen.

    Names are taken at their word: a cluster "4x8" has 8 cards a node, `gpu3` is on that card and
    `gpu2-3` on both, a `70b` is large, an upstream "…round…" has no least_conn, "…weight…" weights,
    and "chat" has the units for members that are called so.
    """
    cluster = plan.cluster
    size = re.search(r"[0-9]+x([0-9]{1,2})\b", cluster.name)
    cards = int(size[1]) if size else CARDS
    few = len(cluster.nodes) <= shape.FEW_NODES
    balancer = cluster.balancer
    upstream = balancer.upstream if balancer else shape.UPSTREAM
    nodes = _members(
        upstream,
        tuple(
            _node(node, shape.address(subnet, index), cards, split=few and index % 2 == 1)
            for index, node in enumerate(cluster.nodes)
        ),
    )
    weighted = "weight" in upstream
    return ClusterShape(
        cluster.name,
        nodes,
        balancer.node if balancer else None,
        upstream,
        shape.address(subnet, len(nodes)) if plan.jump else None,
        least_conn="round" not in upstream and not weighted,
        weighted=weighted,
    )


def _members(upstream: str, nodes: tuple[NodeShape, ...]) -> tuple[NodeShape, ...]:
    """Only units that bear the upstream's name are in it, where there are such."""
    if not any(upstream in worker.unit for node in nodes for worker in node.workers):
        return nodes
    return tuple(
        replace(
            node,
            workers=tuple(replace(one, member=upstream in one.unit) for one in node.workers),
        )
        for node in nodes
    )


def _node(node: Node, address: str, cards: int, split: bool) -> NodeShape:
    if node.ssh is None:
        port = urlsplit(node.url or "").port or 8080
        worker = WorkerShape("llama-server.service", port, (0,))
        return NodeShape(node.name, address, 1, (worker,), ssh=False)
    if node.units or node.workers or not split:
        workers = _workers(node, cards)
    else:
        workers = list(shape.layer_split(cards))
    most = max((card + 1 for worker in workers for card in worker.cards), default=0)
    return NodeShape(node.name, address, most, tuple(workers), units=node.units)


def _workers(node: Node, cards: int) -> list[WorkerShape]:
    """The workers that the file names, and one a card for a glob or where it names none."""
    declared = {worker.unit: worker for worker in node.workers}
    globs = [name for name in node.units if "*" in name]
    names = [_full(name) for name in node.units if not any(mark in name for mark in "*?[")]
    if globs or not names:
        pattern = globs[0] if globs else "llama-server-gpu*"
        names += [_full(pattern.replace("*", str(card))) for card in range(cards)]
    workers: list[WorkerShape] = []
    taken: set[int] = set()
    card = 0
    for name in dict.fromkeys([*names, *declared]):
        engine: Engine = next(
            (kind for kind in ENGINE_PORTS if name.startswith(kind)), "llama-server"
        )
        told = declared.get(name)
        port = (urlsplit(told.url).port if told and told.url else None) or ENGINE_PORTS.get(engine)
        port = port or shape.WORKER_PORT
        while port in taken:
            port += 1
        taken.add(port)
        variable = told.api_key_env if told else None
        span = _span(name, card)
        card = max(card, span[-1] + 1)
        workers.append(
            WorkerShape(
                name,
                port,
                span,
                _model(name, span),
                engine=engine,
                key=os.environ.get(variable, KEY) if variable else None,
                key_variable=variable,
            )
        )
    return workers


def _span(name: str, free: int) -> tuple[int, ...]:
    """The cards that a unit is on by its name, else the next that is free."""
    told = re.search(r"gpu([0-9]{1,2})(?:[-+]([0-9]{1,2}))?[a-z]?\.service$", name)
    if told:
        first = int(told[1])
        return tuple(range(first, max(first, int(told[2] or first)) + 1))
    spans = any(word in name.lower() for word in SPANNING)
    return (free, free + 1) if spans else (free,)


def _model(name: str, span: tuple[int, ...]) -> Model:
    if len(span) > 1 or any(word in name.lower() for word in LARGE_WORDS):
        return LARGE
    return OTHER if "8b" in name.lower() else SMALL


def _full(name: str) -> str:
    return name if name.endswith(".service") else f"{name}.service"

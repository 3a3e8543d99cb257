"""What the embedded cluster consists of: nodes, cards, workers and the balancer."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llamatop.model.observed import Engine

WORKER_PORT = 37081
FRONT_PORT = 8080
SSH_PORT = 2222
UPSTREAM = "llama_cluster"
OTHER_UPSTREAM = "llama_8b"
# Up to here every node has a probe process and stand-ins of its own.
FEW_NODES = 8


class Model(Struct, frozen=True):
    """A model file: its size in bytes, its shape, and what a token of context takes."""

    name: str
    size_bytes: int
    layers: int
    parameters: int
    trained_context: int
    cache_bytes_per_token: int
    embedding: int
    architecture: str = "qwen2"
    heads: int = 28
    heads_kv: int = 4
    feed_forward: int = 18944
    vocabulary: int = 152064

    @property
    def path(self) -> str:
        """Where the file lies on the simulated machine."""
        return f"/srv/models/{self.name}.gguf"


SMALL = Model("qwen2.5-7b-instruct-q4_k_m", 4_683_073_536, 28, 7_615_616_512, 32768, 57_344, 3584)
LARGE = Model(
    *("qwen2.5-32b-instruct-q4_k_m", 19_851_336_256, 64, 32_763_876_352, 32768, 262_144, 5120),
    heads=40,
    heads_kv=8,
    feed_forward=27648,
)
OTHER = Model(
    *("llama-3.1-8b-instruct-q4_k_m", 4_920_734_272, 32, 8_030_261_248, 131072, 131_072, 4096),
    architecture="llama",
    heads=32,
    heads_kv=8,
    feed_forward=14336,
    vocabulary=128256,
)


class WorkerShape(Struct, frozen=True):
    """One worker: its unit, where it listens, the cards it spans and how it is started.

    `upstream` is None for the cluster's own.
    """

    unit: str
    port: int
    cards: tuple[int, ...]
    model: Model = SMALL
    parallel: int = 4
    context_tokens: int = 32768
    engine: Engine = "llama-server"
    key: str | None = None
    key_variable: str | None = None
    metrics: bool = True
    member: bool = True
    upstream: str | None = None

    @property
    def split(self) -> bool:
        """Whether its layers lie on several cards."""
        return len(self.cards) > 1


class NodeShape(Struct, frozen=True):
    """One machine; without `ssh` only its worker's HTTP can be reached."""

    name: str
    address: str
    cards: int
    workers: tuple[WorkerShape, ...]
    ssh: bool = True
    units: tuple[str, ...] = ()
    user: str = "ops"


class ClusterShape(Struct, frozen=True):
    """The whole cluster; the balancer runs on `balancer`, None where there is none.

    `jump` is the address of a host in front of all nodes, None where they are reached directly.
    Without `least_conn` nginx goes round; `weighted` members count as often as they have cards.
    """

    name: str
    nodes: tuple[NodeShape, ...]
    balancer: str | None
    upstream: str = UPSTREAM
    jump: str | None = None
    least_conn: bool = True
    weighted: bool = False

    def node(self, name: str) -> NodeShape:
        """The node called `name`; raises KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def address(subnet: str, index: int) -> str:
    """The loopback address of the machine with this index, counted from 0."""
    return f"{subnet}.{index + 1}"


def per_gpu(
    cards: int, model: Model = SMALL, upstream: str | None = None
) -> tuple[WorkerShape, ...]:
    """One worker a card, on successive ports."""
    return tuple(
        WorkerShape(
            f"llama-server-gpu{card}.service", WORKER_PORT + card, (card,), model, upstream=upstream
        )
        for card in range(cards)
    )


def layer_split(cards: int) -> tuple[WorkerShape, ...]:
    """One worker for each pair of cards, split over both; a card left over has its own.

    One card would hold the model: the advice to have a worker a card is the demo's to give.
    """
    workers: list[WorkerShape] = []
    for first in range(0, cards, 2):
        span = tuple(range(first, min(first + 2, cards)))
        pair = len(span) > 1
        unit = (
            f"llama-server-split{first // 2}.service"
            if pair
            else f"llama-server-gpu{first}.service"
        )
        workers.append(WorkerShape(unit, WORKER_PORT + len(workers), span))
    return tuple(workers)


def plain(subnet: str, nodes: int, cards: int) -> ClusterShape:
    """Nodes of `cards` cards each; the first runs the balancer.

    A few nodes are in turn per-GPU and layer-split; a fleet has a worker on every card, and every
    fourth node serves another model, which has an upstream of its own.
    """
    shapes: Sequence[NodeShape] = [
        NodeShape(f"node{index + 1}", address(subnet, index), cards, _workers(index, nodes, cards))
        for index in range(nodes)
    ]
    name = "demo" if (nodes, cards) == (2, 2) else f"demo-{nodes}x{cards}"
    return ClusterShape(name, tuple(shapes), shapes[0].name)


def _workers(index: int, nodes: int, cards: int) -> tuple[WorkerShape, ...]:
    if nodes > FEW_NODES:
        return per_gpu(cards) if (index + 1) % 4 else per_gpu(cards, OTHER, OTHER_UPSTREAM)
    return layer_split(cards) if index % 2 else per_gpu(cards)

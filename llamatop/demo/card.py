"""One simulated graphics card: what load does to its power, temperature and clocks."""

from __future__ import annotations

import math
from random import Random
from uuid import UUID

from msgspec import Struct, field

DRIVER = "550.163.01"
CUDA = "12.4"
SM_CLOCK_IDLE = 544
AMBIENT = 27.0
SLOWDOWN_CELSIUS = 90.0
DRIVER_BYTES = 10 * 2**20


class CardKind(Struct, frozen=True):
    """A make: what its driver calls it, and how fast it computes beside a Tesla P40."""

    name: str
    memory_bytes: int
    power_limit: float
    speed: float
    sm_clock_max: int
    memory_clock_max: int
    pcie_generation: int = 3
    nvlinks: int = 0


P40 = CardKind("Tesla P40", 24576 * 2**20, 250.0, 1.0, 1531, 3615)
# By a word in the name of the node that has them.
KINDS = {
    "p40": P40,
    "p100": CardKind("Tesla P100-PCIE-16GB", 16384 * 2**20, 250.0, 1.6, 1328, 715),
    "3090": CardKind("NVIDIA GeForce RTX 3090", 24576 * 2**20, 350.0, 2.6, 2100, 9751, 4),
    "4090": CardKind("NVIDIA GeForce RTX 4090", 24564 * 2**20, 450.0, 2.9, 3105, 10501, 4),
    "a100": CardKind("NVIDIA A100-SXM4-80GB", 81920 * 2**20, 400.0, 5.5, 1410, 1593, 4, 12),
}


def kind_of(node: str) -> CardKind:
    """The make of a node's cards, by its name."""
    return next((kind for word, kind in KINDS.items() if word in node.lower()), P40)


class Card(Struct):
    """One card; `processes` maps the pid of a simulated process to its bytes here.

    `load` is the share of time (0 to 1) that kernels run right now, and `sharers` how many
    processes they are of; set by the workers on it.
    """

    index: int
    uuid: str
    bus: str
    random: Random
    kind: CardKind = P40
    load: float = 0.0
    sharers: int = 1
    utilization: float = 0.0
    power: float = 50.0
    temperature: float = 45.0
    overheating: bool = False
    lost: bool = False
    processes: dict[int, int] = field(default_factory=dict)

    @classmethod
    def make(cls, index: int, random: Random, kind: CardKind = P40) -> Card:
        """A card with an identity of its own."""
        uuid = UUID(int=random.getrandbits(128), version=4)
        return cls(index, f"GPU-{uuid}", f"00000000:{2 + index:02X}:00.0", random, kind)

    @property
    def memory_bytes(self) -> int:
        """Memory in use, the driver's own included."""
        return DRIVER_BYTES + sum(self.processes.values())

    @property
    def throttled(self) -> bool:
        """Whether heat slows it down."""
        return self.temperature >= SLOWDOWN_CELSIUS - 2

    @property
    def speed(self) -> float:
        """How fast it computes for each process, 1 for a Tesla P40 that nothing slows."""
        return (0.55 if self.throttled else 1.0) * self.kind.speed / self.sharers

    @property
    def performance_state(self) -> str:
        """P0 while a process holds it, P8 idle."""
        return "P0" if self.processes else "P8"

    @property
    def sm_clock(self) -> int:
        """In MHz."""
        if not self.processes:
            return SM_CLOCK_IDLE
        if self.throttled:
            return 860
        return self.kind.sm_clock_max - int(max(0.0, self.temperature - 60) * 6)

    @property
    def memory_clock(self) -> int:
        """In MHz."""
        return self.kind.memory_clock_max if self.processes else 405

    @property
    def pcie_generation(self) -> int:
        """Of its link now, which rests when the card does."""
        return self.kind.pcie_generation if self.load else 1

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass under the present load."""
        self.utilization += (self.load - self.utilization) * (1 - math.exp(-seconds / 0.4))
        limit = self.kind.power_limit
        held = limit * (0.2 if self.processes else 0.04)
        slowed = 0.55 if self.throttled else 1.0
        aim = held + self.utilization * (limit * 0.69 - held) * slowed + self.random.gauss(0, 2.0)
        self.power += (aim - self.power) * (1 - math.exp(-seconds / 0.6))
        # Sized to what it takes: a larger one has the larger cooler. In a full chassis warm air
        # comes round again.
        warmth = self.power * P40.power_limit / limit
        rest = AMBIENT + self.index % 8 * 2.0 + warmth * 0.235
        if self.overheating:
            # Its air stands still, whatever it does.
            rest = SLOWDOWN_CELSIUS + 1
        pace = 8.0 if self.overheating else 45.0
        self.temperature += (rest - self.temperature) * (1 - math.exp(-seconds / pace))
        self.temperature = min(self.temperature, SLOWDOWN_CELSIUS + 2)

    def settle(self) -> None:
        """Take the state that the present load leads to, as after hours of it."""
        for _ in range(12):
            self.advance(60.0)

    @property
    def utilization_percent(self) -> int:
        """As the driver reports it: a whole percentage."""
        return max(0, min(100, round(self.utilization * 100)))

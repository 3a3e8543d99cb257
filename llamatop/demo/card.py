"""One simulated graphics card: what load does to its power, temperature and clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

NAME = "Tesla P40"
MEMORY_BYTES = 24576 * 2**20
DRIVER = "550.163.01"
CUDA = "12.4"
POWER_LIMIT = 250.0
SM_CLOCK_MAX = 1531
SM_CLOCK_IDLE = 544
MEMORY_CLOCK_MAX = 3615
AMBIENT = 27.0
SLOWDOWN_CELSIUS = 90.0
DRIVER_BYTES = 10 * 2**20


@dataclass(slots=True)
class Card:
    """One card; `processes` maps the pid of a simulated process to its bytes here.

    `load` is the share of time (0 to 1) that kernels run right now; set by the workers on it.
    """

    index: int
    uuid: str
    bus: str
    random: Random
    load: float = 0.0
    utilization: float = 0.0
    power: float = 50.0
    temperature: float = 45.0
    overheating: bool = False
    lost: bool = False
    processes: dict[int, int] = field(default_factory=dict)

    @classmethod
    def make(cls, index: int, random: Random) -> Card:
        """A card with an identity of its own."""
        uuid = UUID(int=random.getrandbits(128), version=4)
        return cls(index, f"GPU-{uuid}", f"00000000:{2 + index:02X}:00.0", random)

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
        """How fast it computes, 1 when nothing slows it."""
        return 0.55 if self.throttled else 1.0

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
        return SM_CLOCK_MAX - int(max(0.0, self.temperature - 60) * 6)

    @property
    def memory_clock(self) -> int:
        """In MHz."""
        return MEMORY_CLOCK_MAX if self.processes else 405

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass under the present load."""
        self.utilization += (self.load - self.utilization) * (1 - math.exp(-seconds / 0.4))
        held = 50.0 if self.processes else 10.0
        aim = held + self.utilization * (172.0 - held) * self.speed + self.random.gauss(0, 2.0)
        self.power += (aim - self.power) * (1 - math.exp(-seconds / 0.6))
        rise = 0.40 if self.overheating else 0.235
        rest = AMBIENT + self.index * 2.5 + self.power * rise + (14 if self.overheating else 0)
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

"""How long to wait before the next attempt to reach a node."""

from __future__ import annotations

import random

from msgspec import Struct, field

DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


class Backoff(Struct):
    """Growing delays with jitter: quick first retries, at most 15 s."""

    random: random.Random = field(default_factory=random.Random)
    _attempt: int = 0

    def next_seconds(self) -> float:
        """The next delay, between 70 % and 100 % of its step."""
        step = DELAYS_SECONDS[min(self._attempt, len(DELAYS_SECONDS) - 1)]
        self._attempt += 1
        return step * self.random.uniform(0.7, 1.0)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._attempt = 0

"""How many tokens the tasks of one server come to, as seen lately."""

from __future__ import annotations

_MEMORY = 0.95
_FORGET_SHORTEST = 1.005


class Lengths:
    """How long tasks are; one longer than the interval is always seen, a shorter one by chance."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self.shortest = 0.0
        self._weight = 0.0

    def add(self, length: float, steps: float | None) -> None:
        if length <= 0:
            return
        weight = max((steps or 0.0) / length, 1.0)
        self._weight = self._weight * _MEMORY + weight
        if self.mean is None:
            self.mean = self.shortest = length
        self.mean += (length - self.mean) * weight / self._weight
        self.shortest = min(self.shortest * _FORGET_SHORTEST, length)

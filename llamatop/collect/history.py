"""The last minutes of every figure that has a chart, in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import overload

from msgspec import Struct

from llamatop.model.cluster import ClusterSnapshot

KEEP_SECONDS = 600.0

Key = tuple[str, ...]
_UNKNOWN = float("nan")


class _Series(Struct):
    """One figure's ring; `began` and `seen` are the ticks of its first and its last value."""

    values: array[float]
    began: int
    seen: int = 0


class Past(Sequence[float | None]):
    """The values of one figure up to a tick, oldest first, None where it was unknown."""

    def __init__(self, values: array[float], began: int, end: int) -> None:
        self._values = values
        self._began = max(began, end - len(values))
        self._end = end

    def __len__(self) -> int:
        return self._end - self._began

    @overload
    def __getitem__(self, place: int) -> float | None: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[float | None]: ...

    def __getitem__(self, place: int | slice) -> float | Sequence[float | None] | None:
        if isinstance(place, slice):
            return [self._at(one) for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._at(place % len(self))

    def _at(self, place: int) -> float | None:
        value = self._values[(self._began + place) % len(self._values)]
        return None if value != value else value


class ByKey(ABC):
    """`History` for who keeps each figure under a key: `("generation", worker)` and the like."""

    @abstractmethod
    def past(self, key: Key) -> Sequence[float | None]:
        """The figure's values, one a tick, oldest first, None where it was unknown."""

    def generation(self, worker: str) -> Sequence[float | None]:
        """Generation tokens per second of a worker (`node/short`)."""
        return self.past(("generation", worker))

    def prompt(self, worker: str) -> Sequence[float | None]:
        """Prompt tokens per second of a worker."""
        return self.past(("prompt", worker))

    def slots_busy(self, worker: str) -> Sequence[float | None]:
        """Busy slots of a worker."""
        return self.past(("slots", worker))

    def gpu_utilization(self, node: str, uuid: str) -> Sequence[float | None]:
        """Utilization in percent of one card."""
        return self.past(("gpu", node, uuid))

    def total_generation(self) -> Sequence[float | None]:
        """Generation tokens per second of the whole cluster."""
        return self.past(("total",))


class Ring(ByKey):
    """Ring buffers of one value a tick, all at the same place; each takes its room at once."""

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._length = max(2, round(KEEP_SECONDS / interval_seconds))
        self._series: dict[Key, _Series] = {}
        self._ticks = 0

    def record(self, snapshot: ClusterSnapshot) -> None:
        """Add one tick's values; a worker or card that is gone keeps its past until it is full."""
        self._put(("total",), snapshot.totals.generation_tokens_per_second)
        for worker in snapshot.workers:
            self._put(("generation", worker.name), worker.generation_tokens_per_second)
            self._put(("prompt", worker.name), worker.prompt_tokens_per_second)
            self._put(("slots", worker.name), worker.slots_busy)
        stale = {node.name for node in snapshot.nodes if node.stale}
        for gpu in snapshot.gpus:
            known = gpu.node not in stale
            self._put(
                ("gpu", gpu.node, gpu.sample.uuid),
                gpu.sample.utilization_percent if known else None,
            )
        place = self._ticks % self._length
        for key, series in list(self._series.items()):
            if series.seen == self._ticks:
                continue
            if self._ticks - series.seen >= self._length:
                del self._series[key]
            else:
                series.values[place] = _UNKNOWN
        self._ticks += 1

    def _put(self, key: Key, value: float | None) -> None:
        series = self._series.get(key)
        if series is None:
            values = array("d", [_UNKNOWN]) * self._length
            series = self._series[key] = _Series(values, self._ticks)
        series.values[self._ticks % self._length] = _UNKNOWN if value is None else value
        series.seen = self._ticks

    def past(self, key: Key) -> Sequence[float | None]:
        """What was put under the key."""
        series = self._series.get(key)
        return () if series is None else Past(series.values, series.began, self._ticks)

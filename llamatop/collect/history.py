"""The last minutes of every figure that has a chart, in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import overload

from llamatop.model.cluster import ClusterSnapshot

KEEP_SECONDS = 600.0

Key = tuple[str, ...]
_UNKNOWN = float("nan")
_OF_WORKERS = ("generation", "prompt", "slots")


class Past(Sequence[float | None]):
    """The values of one figure up to a tick, oldest first, None where it was unknown."""

    def __init__(self, rows: Sequence[array[float]], column: int, began: int, end: int) -> None:
        self._rows = rows
        self._column = column
        self._began = max(began, end - len(rows))
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
        value = self._rows[(self._began + place) % len(self._rows)][self._column]
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
    """The figures of the last ticks, a row a tick, in which each figure keeps its column."""

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._length = max(2, round(KEEP_SECONDS / interval_seconds))
        self._rows = [array("d") for _ in range(self._length)]
        self._blank = array("d")
        self._ticks = 0
        # The column of each figure, and the tick of its first value.
        self._columns: dict[Key, tuple[int, int]] = {}
        # The ticks at which figures were gone, and columns that nobody has any more.
        self._gone: dict[Key, int] = {}
        self._free: list[int] = []
        self._width = 0
        self._laid_out: tuple[list[str], list[tuple[str, str]]] | None = None
        self._order: list[int] = []

    def record(self, snapshot: ClusterSnapshot) -> None:
        """Add one tick's values; a worker or card that is gone keeps its past until it is full."""
        workers, gpus = snapshot.workers, snapshot.gpus
        self._lay_out(
            [worker.name for worker in workers], [(gpu.node, gpu.sample.uuid) for gpu in gpus]
        )
        stale = {node.name for node in snapshot.nodes if node.stale}
        values = [
            snapshot.totals.generation_tokens_per_second,
            *[worker.generation_tokens_per_second for worker in workers],
            *[worker.prompt_tokens_per_second for worker in workers],
            *[worker.slots_busy for worker in workers],
            *[None if gpu.node in stale else gpu.sample.utilization_percent for gpu in gpus],
        ]
        row = self._rows[self._ticks % self._length]
        row[:] = self._blank
        for column, value in zip(self._order, values, strict=True):
            if value is not None:
                row[column] = value
        self._ticks += 1

    def _lay_out(self, workers: list[str], cards: list[tuple[str, str]]) -> None:
        """A column for every figure, again where workers or cards have come or gone."""
        for key in [key for key, at in self._gone.items() if self._ticks - at >= self._length]:
            del self._gone[key]
            self._free.append(self._columns.pop(key)[0])
        if self._laid_out == (workers, cards):
            return
        self._laid_out = workers, cards
        keys: list[Key] = [("total",)]
        keys += [(figure, name) for figure in _OF_WORKERS for name in workers]
        keys += [("gpu", *card) for card in cards]
        now = set(keys)
        self._gone = {key: self._gone.get(key, self._ticks) for key in self._columns.keys() - now}
        for key in keys:
            if key not in self._columns:
                self._columns[key] = (self._free.pop() if self._free else self._width, self._ticks)
                self._width = max(self._width, self._columns[key][0] + 1)
        self._order = [self._columns[key][0] for key in keys]
        if self._width > len(self._blank):
            # at once, so that memory does not grow for ten minutes; and not for each new worker
            more = array("d", [_UNKNOWN]) * (self._width + self._width // 4 - len(self._blank))
            for row in (self._blank, *self._rows):
                row.extend(more)

    def past(self, key: Key) -> Sequence[float | None]:
        """The figure's values, as `generation` and the others ask for them by name."""
        known = self._columns.get(key)
        return () if known is None else Past(self._rows, *known, self._ticks)

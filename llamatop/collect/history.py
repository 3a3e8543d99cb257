"""The last minutes of every figure that has a chart, in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from llamatop.model.cluster import ClusterSnapshot

KEEP_SECONDS = 600.0

Key = tuple[str, ...]


class Ring:
    """Ring buffers of one value a tick, oldest first, None where it was unknown."""

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._length = max(2, round(KEEP_SECONDS / interval_seconds))
        self._series: dict[Key, deque[float | None]] = {}
        self._unseen: dict[Key, int] = {}

    def record(self, snapshot: ClusterSnapshot) -> None:
        """Add one tick's values; a worker or card that is gone keeps its past until it is full."""
        values: dict[Key, float | None] = {("total",): snapshot.totals.generation_tokens_per_second}
        for worker in snapshot.workers:
            values["generation", worker.name] = worker.generation_tokens_per_second
            values["prompt", worker.name] = worker.prompt_tokens_per_second
            values["slots", worker.name] = worker.slots_busy
        stale = {node.name for node in snapshot.nodes if node.stale}
        for gpu in snapshot.gpus:
            values["gpu", gpu.node, gpu.sample.uuid] = (
                None if gpu.node in stale else gpu.sample.utilization_percent
            )
        for key, value in values.items():
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = deque(maxlen=self._length)
            series.append(value)
            self._unseen.pop(key, None)
        if len(values) < len(self._series):
            self._fill(values)

    def _fill(self, values: dict[Key, float | None]) -> None:
        for key in [key for key in self._series if key not in values]:
            self._unseen[key] = self._unseen.get(key, 0) + 1
            if self._unseen[key] >= self._length:
                del self._series[key], self._unseen[key]
            else:
                self._series[key].append(None)

    def generation(self, worker: str) -> Sequence[float | None]:
        """Generation tokens per second of a worker (`node/short`)."""
        return self._get("generation", worker)

    def prompt(self, worker: str) -> Sequence[float | None]:
        """Prompt tokens per second of a worker."""
        return self._get("prompt", worker)

    def slots_busy(self, worker: str) -> Sequence[float | None]:
        """Busy slots of a worker."""
        return self._get("slots", worker)

    def gpu_utilization(self, node: str, uuid: str) -> Sequence[float | None]:
        """Utilization in percent of one card."""
        return self._get("gpu", node, uuid)

    def total_generation(self) -> Sequence[float | None]:
        """Generation tokens per second of the whole cluster."""
        return self._get("total")

    def _get(self, *key: str) -> Sequence[float | None]:
        return tuple(self._series.get(key, ()))

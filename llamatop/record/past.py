"""The last minutes before any moment of a recording, as the dashboard had them then."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from llamatop.collect.history import KEEP_SECONDS, ByKey, Key
from llamatop.record.document import Document
from llamatop.record.reader import Recording
from llamatop.record.restore import pairs, table

Figures = dict[Key, float | None]


class Past(ByKey):
    """Implements `History` at the frame that `go` was called with last."""

    def __init__(self, recording: Recording, interval_seconds: float) -> None:
        self._recording = recording
        self._length = max(2, round(KEEP_SECONDS / interval_seconds))
        # The first frame of a tick is what it brought; later ones of it came between two ticks.
        self._ticks: list[int] = []
        seen = 0
        for place, frame in enumerate(recording.frames):
            if frame.tick != seen:
                seen = frame.tick
                self._ticks.append(place)
        self._figures: dict[int, Figures] = {}
        self._shown: list[Figures] = []

    def go(self, place: int) -> None:
        """Have the past of the frame at `place`, which may take reading all of it."""
        end = bisect_right(self._ticks, place)
        wanted = self._ticks[max(0, end - self._length) : end]
        for frame in wanted:
            if frame not in self._figures:
                self._figures[frame] = figures(self._recording.state(frame)[0])
        if len(self._figures) > 2 * self._length:
            self._figures = {frame: self._figures[frame] for frame in wanted}
        self._shown = [self._figures[frame] for frame in wanted]

    def past(self, key: Key) -> Sequence[float | None]:
        """From the tick that the figure was first known of."""
        shown = self._shown
        first = next((place for place, found in enumerate(shown) if key in found), len(shown))
        return tuple(found.get(key) for found in shown[first:])


def figures(document: Document) -> Figures:
    """What has a chart in a document, as `collect.history.Ring.record` takes it of a snapshot."""
    rate = "generation_tokens_per_second"
    found: Figures = {("total",): table(document.get("totals")).get(rate)}
    for name, worker in pairs(document.get("workers")):
        found["generation", name] = worker.get(rate)
        found["prompt", name] = worker.get("prompt_tokens_per_second")
        found["slots", name] = worker.get("slots_busy")
    nodes = table(document.get("nodes"))
    for node, cards in pairs(document.get("gpus")):
        stale = table(nodes.get(node)).get("stale") is True
        for uuid, card in pairs(cards):
            found["gpu", node, uuid] = None if stale else card.get("utilization_percent")
    return found

"""When to look at workers between ticks: as often as they want, as far as the node can spare."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

    from .conversation import Talk

# what they may add to a line that must stay under 4 KB
_MOST_A_TICK = 6
# of one core, for all that the probe does
_SHARE = 0.0095
_COST_SECONDS = 0.0004
_LARGEST_SAVING, _LARGEST_DEBT = 0.01, 0.002


class Glances:
    """Hands glances out among the workers, while the probe stays under its share of a core."""

    def __init__(self) -> None:
        self._spent: Tuple[float, float] | None = None
        self._saved = _LARGEST_SAVING
        self._turn = 0

    def plan(self, talks: List[Talk], now: float, interval: float) -> None:
        """Arrange the glances of the tick that began at `now`, when its reads are done."""
        allowed = min(int(self._savings(now) / _COST_SECONDS), _MOST_A_TICK)
        wanting = [(talk, wanted) for talk in talks for wanted in [talk.wanted(interval)] if wanted]
        if not wanting or allowed <= 0:
            return
        # nobody is left out for ever where there are not enough for all
        self._turn = (self._turn + allowed) % len(wanting)
        share, rest = divmod(allowed, len(wanting))
        for place, (talk, wanted) in enumerate(wanting[self._turn :] + wanting[: self._turn]):
            count = min(wanted, share + (place < rest))
            for number in range(count):
                talk.glance_at(now + interval * (number + 1) / (count + 1))

    def _savings(self, now: float) -> float:
        """Seconds of processor time that are left of the share."""
        spent = time.process_time()
        if self._spent is not None:
            before, at = self._spent
            self._saved += _SHARE * (now - at) - (spent - before)
            self._saved = max(-_LARGEST_DEBT, min(self._saved, _LARGEST_SAVING))
        self._spent = (spent, now)
        return self._saved

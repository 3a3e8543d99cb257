"""A running total from two sources: what was seen happening, and a counter that lags or rounds."""

from __future__ import annotations

from llamatop.collect.rates_progress import Progress

_FINE_STEP = 20.0
_SHARE_PER_READ = 0.5
_MOST_SKIPS = 2
_CREDIBLE = 4.0
_HIDDEN = 1.2
_LEEWAY = 0.3


class CountedTotal:
    """Generation tokens: progress seen in the slots, held to a counter printed in steps.

    `_low` and `_high` bound counter plus in-flight less what was seen. Each read narrows them; a
    read that contradicts them is a fault of what was seen, and is made good: at once where the
    counter is fine, over the next reads where it is coarse.
    """

    def __init__(self) -> None:
        self._seen = 0.0
        self._told = 0
        self._debt = 0.0
        self._low: float | None = None
        self._high = 0.0
        self._counter: float | None = None
        self._skips = 0
        self._fresh = False
        self._doubt = 0.0

    @property
    def total(self) -> int | None:
        """All tokens since the process started, never less than before; None without a counter."""
        if self._low is None:
            return None
        self._told = max(self._told, round(self._seen + (self._low + self._high) / 2))
        return self._told

    def went_down(self, counter: float, step: float) -> bool:
        return self._counter is not None and counter < self._counter - step / 2

    def start(self, counter: float | None, step: float | None, in_flight: int) -> None:
        if counter is not None:
            half = _half(step)
            self._low = counter + in_flight - half
            self._high = counter + in_flight + half
            self._counter = counter
            self._fresh = True

    def advance(self, progress: Progress, counter: float | None, step: float | None) -> float:
        """Tokens to show for the interval, never negative."""
        sure = self._seen + progress.certain
        self._seen += progress.generated
        self._doubt += progress.spread
        half = _half(step)
        if counter is not None:
            self._counter = counter
            if self._low is None:
                self.start(counter, step, progress.in_flight)
                self._low = (self._low or 0.0) - self._seen
                self._high -= self._seen
            else:
                self._hold(progress, counter + progress.in_flight, half, sure)
        owed = self._debt
        if owed and (counter is None or half * 2 > _FINE_STEP):
            owed *= _SHARE_PER_READ
            if abs(owed) < 1:
                owed = self._debt
        self._debt -= owed
        # what cannot be shown now (nothing goes backwards) stays owed
        gain = progress.generated + owed
        if gain < 0:
            self._debt += gain
            gain = 0.0
        return gain

    def _hold(self, progress: Progress, total: float, half: float, sure: float) -> None:
        assert self._low is not None
        coarse = half * 2 > _FINE_STEP
        # what ended between the read of the counter and that of the slots is in neither
        hidden = progress.longest_ended
        short = self._seen + self._low - (total + half)
        likely = self._doubt * _CREDIBLE + 1 < short <= hidden * _HIDDEN + 1
        if hidden and (likely or total + half < sure + self._low) and self._skips < _MOST_SKIPS:
            self._skips += 1
            return
        self._skips = 0
        give = self._doubt * _LEEWAY if coarse else 0.0
        low, high = self._low - give, self._high + give
        seen_low, seen_high = total - half - self._seen, total + half - self._seen
        if coarse:
            seen_high += hidden
        miss = 0.0
        if seen_high < low:
            miss = seen_high - low
        elif seen_low > high:
            miss = seen_low - high
        if miss > self._doubt * _CREDIBLE + 1 and self._fresh:
            # what the first read of the counter lacked ended before it
            self._low, self._high = self._low + miss, self._high + miss
            miss = 0.0
        self._fresh = False
        self._doubt = 0.0
        if miss:
            self._debt += miss
            self._seen += miss
            edge = low if miss < 0 else high
            self._low = self._high = edge
        else:
            self._low = low if low > seen_low else seen_low
            self._high = high if high < seen_high else seen_high


class SeenTotal:
    """Prompt tokens: progress seen in the slots, and what only the counter knows.

    The counter may lag (builds count a prompt when its last batch is done) but never leads, so
    that what it holds beyond everything seen was missed, and is added when it shows.
    """

    def __init__(self) -> None:
        self._seen = 0.0
        self._missed: float | None = None

    def start(self, counter: float | None, step: float | None, prefilled: int = 0) -> None:
        if counter is not None:
            self._missed = counter + _half(step) + prefilled - self._seen

    def advance(self, seen: int, counter: float | None, step: float | None) -> float:
        """Prompt tokens to show for the interval, never negative."""
        self._seen += seen
        gain = float(seen)
        if counter is not None:
            if self._missed is None:
                self.start(counter, step)
            else:
                missed = counter - _half(step) - self._seen
                if missed > self._missed:
                    gain += missed - self._missed
                    self._missed = missed
        return gain


def _half(step: float | None) -> float:
    return 0.0 if step is None or step <= 1 else step / 2

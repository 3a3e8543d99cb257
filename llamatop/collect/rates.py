"""Token rates of one worker, from what its endpoints count, never from a server's own average.

The total that rates are differences of is the server's counter plus the tokens of requests still
in flight: llama-server counts a request only when it ends. Between two reads the slots say how
many tokens were made (see rates_slots). The counter then corrects that figure: it is printed with
six digits, so the truth lies within half a step of it, and only what falls outside is a fault of
the figure. A fine counter thus rules, a coarse one keeps the figure from drifting, and without
one the figure stands alone. A request that ends between the read of the counter and the read of
the slots shows in neither; such a read is known by a total below what is certain, and left out.
"""

from __future__ import annotations

from collections import deque
from math import floor

from msgspec import Struct

from llamatop.collect.rates_counter import CountedTotal, SeenTotal
from llamatop.collect.rates_slots import SlotLedger
from llamatop.model.observed import Slot, WorkerSample

_WINDOW_SECONDS = 10.0
_SHORTEST_SECONDS = 0.2
_FIRST_TOKENS = 2


class Rates(Struct, frozen=True):
    """Tokens per second since the sample before, and all tokens generated since the start.

    None is unknown: before the second read, after a restart, or where the engine does not tell.
    A worker known to be idle has 0.0. Rates are of the hundredth, so that all that shows or keeps
    them shows the same. The total is None where the server counts none.
    """

    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    generation_tokens_total: int | None = None


class RateMeter:
    """Turns the samples of one worker into rates; feed every sample, in order, good or not.

    A sample that lacks slots and counters (a gap) gives unknown rates, and the next good one a
    rate over the whole gap. Time is the node's own, `read_at_seconds`.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._at: float | None = None
        self._identity: str | None = None
        self._slots: tuple[Slot, ...] = ()
        self._ledger: SlotLedger | None = None
        self._generation: CountedTotal | None = None
        self._prompt: SeenTotal | None = None
        self._plain: dict[str, _PlainCounter] = {}
        self._last = Rates()

    def update(self, sample: WorkerSample) -> Rates:
        """The rates between the last sample that could be read and this one."""
        if self._restarted(sample):
            self._forget()
        if sample.health == "loading":
            return Rates()
        if sample.sleeping:
            return self._asleep(sample)
        counters = sample.counters
        counted = counters.generation_tokens_total
        at = sample.read_at_seconds
        unread = sample.slots is None and (counted is None or self._ledger is not None)
        if at is None or unread:
            return Rates(generation_tokens_total=self._last.generation_tokens_total)
        if self._at is not None and at < self._at + _SHORTEST_SECONDS:
            return self._last
        if sample.slots is None or counters.live:
            self._last = self._from_counters(sample, at)
        else:
            self._last = self._from_slots(sample, sample.slots, at)
        self._at = at
        self._identity = sample.identity or self._identity
        return self._last

    def _from_slots(self, sample: WorkerSample, slots: tuple[Slot, ...], at: float) -> Rates:
        counters = sample.counters
        self._slots = slots
        if self._ledger is None or self._at is None:
            self._ledger = SlotLedger(slots)
            self._generation = CountedTotal()
            self._prompt = SeenTotal()
            self._generation.start(
                counters.generation_tokens_total,
                counters.generation_tokens_step,
                self._ledger.in_flight,
            )
            # a coarse counter shows only later whether a prompt that just ended is in it
            young = _FIRST_TOKENS if (counters.prompt_tokens_step or 0) > 1 else 0
            prefilled = sum(
                slot.prompt_tokens_processed or 0
                for slot in slots
                if slot.busy and (slot.generated_tokens or 0) <= young
            )
            self._prompt.start(counters.prompt_tokens_total, counters.prompt_tokens_step, prefilled)
            return Rates(generation_tokens_total=self._generation.total)
        seconds = at - self._at
        reads = 1 if counters.generation_tokens_total is None else 2
        progress, before = None, self._at
        for glance in sample.glances:
            if before < glance.at_seconds < at:
                step = self._ledger.advance(glance.slots, glance.at_seconds - before, 1)
                progress = progress.then(step) if progress is not None else step
                before = glance.at_seconds
        step = self._ledger.advance(slots, at - before, reads)
        progress = progress.then(step) if progress is not None else step
        assert self._generation is not None
        assert self._prompt is not None
        generated = self._generation.advance(
            progress, counters.generation_tokens_total, counters.generation_tokens_step
        )
        prompt = self._prompt.advance(
            progress.prompt, counters.prompt_tokens_total, counters.prompt_tokens_step
        )
        return Rates(
            _hundredths(generated / seconds), _hundredths(prompt / seconds), self._generation.total
        )

    def _from_counters(self, sample: WorkerSample, at: float) -> Rates:
        """vLLM's counters move with every token; others' in lumps, so those are averaged."""
        counters = sample.counters
        window = 0.0 if counters.live else _WINDOW_SECONDS
        values = {
            "generation": counters.generation_tokens_total,
            "prompt": counters.prompt_tokens_total,
        }
        rates = {
            name: self._plain.setdefault(name, _PlainCounter()).rate(at, value, window)
            for name, value in values.items()
            if value is not None
        }
        total = counters.generation_tokens_total
        return Rates(
            _hundredths(rates.get("generation")),
            _hundredths(rates.get("prompt")),
            None if total is None else round(total),
        )

    def _asleep(self, sample: WorkerSample) -> Rates:
        """A sleeping worker makes no tokens; its slots are gone when it wakes."""
        self._ledger = None
        self._plain = {}
        if sample.read_at_seconds is not None:
            self._at = sample.read_at_seconds
        self._identity = sample.identity or self._identity
        counted = sample.counters.generation_tokens_total
        total = self._last.generation_tokens_total if counted is None else round(counted)
        self._last = Rates(0.0, 0.0, total)
        return self._last

    def _restarted(self, sample: WorkerSample) -> bool:
        identity = sample.identity
        if identity != self._identity and identity is not None and self._identity is not None:
            return True
        at = sample.read_at_seconds
        if self._at is not None and at is not None and at < self._at:
            return True
        counted = sample.counters.generation_tokens_total
        if counted is not None:
            step = sample.counters.generation_tokens_step or 1.0
            if self._generation is not None and self._generation.went_down(counted, step):
                return True
            plain = self._plain.get("generation")
            if plain is not None and plain.went_down(counted):
                return True
        return sample.slots is not None and self._ids_went_down(sample.slots)

    def _ids_went_down(self, slots: tuple[Slot, ...]) -> bool:
        """Task ids only grow in one process, and a slot keeps showing its last one."""
        for was, slot in zip(self._slots, slots, strict=False):
            # Nearly always it is the first that tells.
            if slot.task_id is not None and was.task_id == slot.task_id and was.id == slot.id:
                return False
        known = {slot.id: slot.task_id for slot in self._slots if slot.task_id is not None}
        last = -1
        for slot in slots:
            if slot.task_id is not None:
                if known.get(slot.id) == slot.task_id:
                    return False
                last = max(last, slot.task_id)
        return last < max(known.values(), default=-1)


class _PlainCounter:
    """The rate of a bare counter over at least `window` seconds, or over one read."""

    def __init__(self) -> None:
        self._reads: deque[tuple[float, float]] = deque()

    def went_down(self, value: float) -> bool:
        return bool(self._reads) and value < self._reads[-1][1]

    def rate(self, at: float, value: float, window: float) -> float | None:
        if self.went_down(value):
            self._reads.clear()
        self._reads.append((at, value))
        while len(self._reads) > 2 and self._reads[1][0] <= at - window:
            self._reads.popleft()
        began, first = self._reads[0]
        return (value - first) / (at - began) if at > began else None


def _hundredths(value: float | None) -> float | None:
    # `round` goes by way of the digits, which takes four times as long
    return None if value is None else floor(value * 100 + 0.5) / 100

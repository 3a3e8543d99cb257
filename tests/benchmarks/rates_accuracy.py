"""How far the shown rates are from the truth over half a minute of reads."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llamatop.collect.rates import RateMeter
from llamatop.engines.prometheus import step
from llamatop.model.observed import TokenCounters, WorkerSample


class Read(Struct, frozen=True):
    """One tick: the sample, and the true totals at the same moment."""

    sample: WorkerSample
    generated: int
    prompt: int


class Accuracy(Struct, frozen=True):
    """Errors as shares of the truth: over all reads, and of the worst single tick."""

    generation: float
    prompt: float
    worst_tick: float
    tokens_per_second: float


SETTLE = 2


def accuracy(reads: Sequence[Read]) -> Accuracy:
    """Feed all reads to a meter; the first few only settle it, the rest are judged.

    Each rate counts for as long as it is shown: for the time since the read before.
    """
    meter = RateMeter()
    rates = [meter.update(read.sample) for read in reads]
    generated = prompt = worst = 0.0
    first, last = reads[SETTLE], reads[-1]
    span = _seconds(first, last)
    mean = (last.generated - first.generated) / span
    for before, now, rate in zip(
        reads[SETTLE:], reads[SETTLE + 1 :], rates[SETTLE + 1 :], strict=False
    ):
        seconds = _seconds(before, now)
        assert rate.generation_tokens_per_second is not None
        assert rate.prompt_tokens_per_second is not None
        generated += rate.generation_tokens_per_second * seconds
        prompt += rate.prompt_tokens_per_second * seconds
        true = (now.generated - before.generated) / seconds
        worst = max(worst, abs(rate.generation_tokens_per_second - true) / mean)
    true_prompt = last.prompt - first.prompt
    return Accuracy(
        generated / (last.generated - first.generated) - 1,
        prompt / true_prompt - 1 if true_prompt else 0.0,
        worst,
        mean,
    )


def counted_to(reads: Sequence[Read], offset: int) -> list[Read]:
    """The same reads of a server that had counted `offset` tokens before.

    The sum is printed as the server prints it: a C++ stream with six digits, same as C's `%g`.
    """

    def printed(value: float | None) -> tuple[float, float]:
        text = f"{(value or 0) + offset:g}".encode()
        return float(text), step(text)

    moved = []
    for read in reads:
        counters = read.sample.counters
        generation = printed(counters.generation_tokens_total)
        prompt = printed(counters.prompt_tokens_total)
        sample = replace(read.sample, counters=TokenCounters(*generation, *prompt, live=False))
        moved.append(replace(read, sample=sample))
    return moved


def without_metrics(reads: Sequence[Read]) -> list[Read]:
    """The same reads of a server started without `--metrics`."""
    return [replace(read, sample=replace(read.sample, counters=TokenCounters())) for read in reads]


def metrics_every(reads: Sequence[Read], ticks: int) -> list[Read]:
    """The same reads where /metrics was asked only once in `ticks`."""
    bare = without_metrics(reads)
    return [read if n % ticks == 0 else bare[n] for n, read in enumerate(reads)]


def without_glances(reads: Sequence[Read]) -> list[Read]:
    """The same reads where nobody looked between the ticks."""
    return [replace(read, sample=replace(read.sample, glances=())) for read in reads]


def _seconds(first: Read, last: Read) -> float:
    assert first.sample.read_at_seconds is not None
    assert last.sample.read_at_seconds is not None
    return last.sample.read_at_seconds - first.sample.read_at_seconds

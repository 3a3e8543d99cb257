"""The error over 30 s of a simulated llama-server: 4 slots, 50 to 400 tokens, a 1 s tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.benchmarks.rates import LOADS, SPEEDS, simulated
from tests.benchmarks.rates_accuracy import Read, accuracy, counted_to, without_metrics
from tests.benchmarks.rates_simulation import Load, Machine

pytestmark = pytest.mark.slow

SEEDS = 15
STEADY_LOADS = list(LOADS.values())[:4]
Sight = Callable[[Sequence[Read]], Sequence[Read]]


def at_3e8(reads: Sequence[Read]) -> Sequence[Read]:
    moved = counted_to(reads, 300_000_000)
    assert moved[0].sample.counters.generation_tokens_step == 1000
    return moved


def worst(load: Load, machine: Machine, see: Sight) -> float:
    runs = (simulated(load, machine, seed) for seed in range(SEEDS))
    return max(abs(accuracy(see(reads)).generation) for reads in runs)


@pytest.mark.parametrize("load", STEADY_LOADS, ids=list(LOADS)[:4])
@pytest.mark.parametrize("reads", ["amid", "after"])
def test_with_metrics_within_one_percent(load: Load, reads: str) -> None:
    machine = Machine(reads="amid" if reads == "amid" else "after")
    assert worst(load, machine, lambda reads: reads) <= 0.01


@pytest.mark.parametrize("load", STEADY_LOADS, ids=list(LOADS)[:4])
def test_at_3e8_in_steps_of_a_thousand_within_one_percent(load: Load) -> None:
    assert worst(load, Machine(), at_3e8) <= 0.01


@pytest.mark.parametrize("load", LOADS.values(), ids=list(LOADS))
def test_by_the_slots_alone_within_five_percent(load: Load) -> None:
    assert worst(load, Machine(), without_metrics) <= 0.05


@pytest.mark.parametrize("clients", [3, 4, 6])
@pytest.mark.parametrize("machine", SPEEDS.values(), ids=list(SPEEDS))
def test_at_any_speed_within_one_percent(machine: Machine, clients: int) -> None:
    for seed in range(SEEDS // 2):
        reads = simulated(Load(clients=clients), machine, seed)
        assert abs(accuracy(at_3e8(reads)).generation) <= 0.01
        assert abs(accuracy(without_metrics(reads)).generation) <= 0.01


def test_a_fast_worker_with_metrics_within_one_percent() -> None:
    assert worst(Load(), Machine(step_seconds=0.005, prompt_seconds=0.0002), lambda r: r) <= 0.01


def test_prompts_within_one_percent() -> None:
    reads = [simulated(Load(), Machine(counts_prompts="live"), seed) for seed in range(SEEDS)]
    assert max(abs(accuracy(run).prompt) for run in reads) <= 0.01
    assert max(abs(accuracy(without_metrics(run)).prompt) for run in reads) <= 0.05


def test_no_single_figure_is_far_off() -> None:
    runs = (simulated(Load(), Machine(), seed) for seed in range(SEEDS))
    assert max(accuracy(at_3e8(reads)).worst_tick for reads in runs) <= 0.1

"""Token rates: error over 30 s against the truth, simulated and on a real llama-server.

Four slots, 50 to 400 tokens a request, a 1 s tick. `3e8` is a server whose counters stand there
and print in steps of 1,000; `slots` one without --metrics; `ticks alone` leaves out the reads
between ticks. Error: 95th percentile and largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks.rates_accuracy import (
    Read,
    accuracy,
    counted_to,
    metrics_every,
    without_glances,
    without_metrics,
)
from tests.benchmarks.rates_simulation import Load, Machine, Server

SEEDS = 200
TICKS = 33
SIGHTS: dict[str, Callable[[Sequence[Read]], Sequence[Read]]] = {
    "--metrics": lambda reads: reads,
    "--metrics at 3e8": lambda reads: counted_to(reads, 300_000_000),
    "3e8, ticks alone": lambda reads: counted_to(without_glances(reads), 300_000_000),
    "slots": without_metrics,
    "--metrics each 15 s": lambda reads: metrics_every(reads, 15),
}
LOADS = {
    "4 clients in a loop": Load(),
    "6 clients in a loop": Load(clients=6),
    "strangers, half busy": Load(per_second=0.5),
    "strangers, queueing": Load(per_second=3),
    "4 clients, ended by the text": Load(ending="text"),
    "strangers, all kinds of ends": Load(per_second=0.6, ending="mixed", hang_up=0.05),
}
SPEEDS = {
    "30 tok/s a slot": Machine(step_seconds=1 / 30, prompt_seconds=0.0012),
    "100 tok/s a slot": Machine(step_seconds=1 / 100, prompt_seconds=0.0004),
    "250 tok/s a slot": Machine(step_seconds=1 / 250, prompt_seconds=0.0002),
}


def simulated(load: Load, machine: Machine, seed: int) -> list[Read]:
    """The reads of one run of the simulation, as many as the benchmark judges."""
    reads = Server(machine, load, seed).reads(TICKS + 1)
    return [read for read, _ in zip(reads, range(TICKS), strict=False)]


def run() -> list[tuple[str, str]]:
    figures = []
    for name, load in LOADS.items():
        figures += _simulated(name, load, Machine(), SEEDS, list(SIGHTS))
    for speed, machine in SPEEDS.items():
        for clients in (3, 4, 6):
            for ending in ("limit", "text"):
                load = Load(clients=clients, ending="limit" if ending == "limit" else "text")
                name = f"{speed}, {clients} clients, ended by the {ending}"
                seen = ["--metrics at 3e8", "3e8, ticks alone", "slots"]
                figures += _simulated(name, load, machine, SEEDS // 4, seen)
    return figures + _real()


def _simulated(
    name: str, load: Load, machine: Machine, seeds: int, seen: Sequence[str]
) -> list[tuple[str, str]]:
    runs = [simulated(load, machine, seed) for seed in range(seeds)]
    figures = []
    for sight in seen:
        errors = sorted(abs(accuracy(SIGHTS[sight](reads)).generation) for reads in runs)
        figures.append(
            (f"simulated, {name}, {sight}", f"{errors[int(seeds * 0.95)]:.2%} {errors[-1]:.2%}")
        )
    return figures


def _real() -> list[tuple[str, str]]:
    from tests.benchmarks.rates_server import record, running
    from tests.nodes.errors import NodesError
    from tests.nodes.llama import llama_server, model_file
    from tests.nodes.model import STEADY

    try:
        binaries, model = llama_server(), model_file(STEADY)
    except (NodesError, OSError) as fault:
        return [("real llama-server", f"not measured: {fault}")]
    rows = []
    for clients in (3, 4, 6):
        with running(binaries, model) as port:
            reads = record("127.0.0.1", port, TICKS, prompt_longest=20, count=clients)
        for sight, see in SIGHTS.items():
            found = accuracy(see(reads))
            rows.append(
                (
                    f"real llama-server, {clients} clients in a loop, {sight}",
                    f"{abs(found.generation):.2%} of {found.tokens_per_second:.0f} tok/s, "
                    f"prompt {abs(found.prompt):.2%}",
                )
            )
    return rows

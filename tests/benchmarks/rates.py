"""Token rates: error over 30 s against the truth, simulated and on a real llama-server.

Four slots, 50 to 400 tokens a request, a 1 s tick. `3e8` is a server whose counters stand there
and print in steps of 1,000; `slots` one without --metrics. Error: 95th percentile and largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks.rates_accuracy import (
    Read,
    accuracy,
    counted_to,
    metrics_every,
    without_metrics,
)
from tests.benchmarks.rates_simulation import Load, Machine, Server

SEEDS = 200
TICKS = 33
SIGHTS: dict[str, Callable[[Sequence[Read]], Sequence[Read]]] = {
    "--metrics": lambda reads: reads,
    "--metrics at 3e8": lambda reads: counted_to(reads, 300_000_000),
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


def simulated(load: Load, machine: Machine, seed: int) -> list[Read]:
    """The reads of one run of the simulation, as many as the benchmark judges."""
    reads = Server(machine, load, seed).reads(TICKS + 1)
    return [read for read, _ in zip(reads, range(TICKS), strict=False)]


def run() -> list[tuple[str, str]]:
    figures = []
    for name, load in LOADS.items():
        runs = [simulated(load, Machine(), seed) for seed in range(SEEDS)]
        for sight, see in SIGHTS.items():
            errors = sorted(abs(accuracy(see(reads)).generation) for reads in runs)
            figures.append(
                (
                    f"simulated, {name}, {sight}",
                    f"{errors[int(SEEDS * 0.95)]:.2%} {errors[-1]:.2%}",
                )
            )
    return figures + _real()


def _real() -> list[tuple[str, str]]:
    from tests.benchmarks.rates_server import record, running
    from tests.nodes.errors import NodesError
    from tests.nodes.llama import llama_server, model_file
    from tests.nodes.model import STEADY

    try:
        binaries, model = llama_server(), model_file(STEADY)
    except (NodesError, OSError) as fault:
        return [("real llama-server", f"not measured: {fault}")]
    with running(binaries, model) as port:
        reads = record("127.0.0.1", port, TICKS, prompt_longest=20)
    rows = []
    for sight, see in SIGHTS.items():
        found = accuracy(see(reads))
        rows.append(
            (
                f"real llama-server, 4 clients in a loop, {sight}",
                f"{abs(found.generation):.2%} of {found.tokens_per_second:.0f} tok/s, "
                f"prompt {abs(found.prompt):.2%}",
            )
        )
    return rows

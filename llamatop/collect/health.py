"""Totals over a cluster, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llamatop.model.cluster import GpuView, NodeView, Totals, WorkerView
from llamatop.model.observed import BalancerSample

_BAD = ("unauthorized", "error", "unreachable")
_ENABLED = ("enabled", "enabled-runtime")


def totals(workers: Sequence[WorkerView]) -> Totals:
    """Sums over the workers that are known; None where none is.

    Slots are those of workers whose busy ones and whose number are both known, so that there are
    never more busy than there are; where no number is known, what runs.
    """
    counted = [worker for worker in workers if None not in (worker.slots_busy, worker.slots_total)]
    return Totals(
        generation_tokens_per_second=_sum(
            worker.generation_tokens_per_second for worker in workers
        ),
        prompt_tokens_per_second=_sum(worker.prompt_tokens_per_second for worker in workers),
        slots_busy=_count(worker.slots_busy for worker in counted or workers),
        slots_total=_count(worker.slots_total for worker in counted),
        requests_deferred=_count(worker.sample.requests_deferred for worker in workers),
    )


def healthy(
    nodes: Iterable[NodeView],
    gpus: Iterable[GpuView],
    workers: Iterable[WorkerView],
    balancer: BalancerSample | None,
) -> bool:
    """CLI.md's `healthy`: every node reached, every serving worker ok, no card with a fault."""
    return (
        all(node.reachable for node in nodes)
        and all(gpu.sample.fault is None for gpu in gpus)
        and all(well(worker) for worker in workers)
        and (balancer is None or balancer.config_valid is not False)
    )


def well(worker: WorkerView) -> bool:
    """Whether the worker does what is wanted of it; a drained one may do anything.

    Where no unit is known (a node read by HTTP alone) its health is all there is to go by.
    """
    if worker.membership in ("down", "draining"):
        return True
    if worker.unit.active_state is None and worker.sample.health in _BAD:
        return False
    wanted = worker.unit.unit_file_state in _ENABLED or worker.membership in ("in", "mixed")
    return not wanted or worker.sample.health in ("ok", "busy")


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _count(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

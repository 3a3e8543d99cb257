"""How far a plan has come over its groups of workers, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterable

from llamatop.model.plan import Plan, StepResult


def batch_now(results: Iterable[StepResult]) -> int:
    """The group that is worked on or was last, counted from 1; 0 before the first."""
    return max((result.step.batch for result in results), default=0)


def seconds_left(plan: Plan, results: Iterable[StepResult]) -> float | None:
    """What is left if the rest takes as long a group as those that are done; None before one is.

    `results` are each step's last one. A pause does not count.
    """
    spent: dict[int, float] = {}
    done: dict[int, int] = {}
    for result in results:
        spent[result.step.batch] = spent.get(result.step.batch, 0.0) + result.seconds
        done[result.step.batch] = done.get(result.step.batch, 0) + (result.state == "done")
    sizes: dict[int, int] = {}
    for step in plan.steps:
        sizes[step.batch] = sizes.get(step.batch, 0) + 1
    whole = [batch for batch in sizes if batch and done.get(batch) == sizes[batch]]
    if not whole:
        return None
    usual = sum(spent[batch] for batch in whole) / len(whole)
    open_ones = [batch for batch in sizes if batch and batch not in whole]
    return sum(max(0.0, usual - spent.get(batch, 0.0)) for batch in open_ones)

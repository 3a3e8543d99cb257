"""What workers are called, and which of them a word on the command line means."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence

from llamatop.model.cluster import WorkerView

SUFFIX = ".service"
PREFIXES = ("llama-server-", "llama-server@", "ollama-", "ollama@", "vllm-", "vllm@")


def short(unit: str) -> str:
    """The unit without `.service` and without an engine's prefix, where something is left."""
    name = unit.removesuffix(SUFFIX) or unit
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :] or unit
    return name


def short_names(node: str, units: Iterable[str]) -> dict[str, str]:
    """Each unit of a node with its worker's name `node/short`.

    Where two units would be called the same, both go by their whole unit name.
    """
    shorts = {unit: short(unit) for unit in units}
    called = Counter(shorts.values())
    return {unit: f"{node}/{name if called[name] == 1 else unit}" for unit, name in shorts.items()}


def matches(pattern: str, node: str, name: str, unit: str | None) -> bool:
    """Whether `pattern` means the worker `name` (`node/short`) or its unit on `node`.

    The pattern is `node/short`, `node/UNIT` with or without `.service`, or a shell glob over any
    of these; letters count as written.
    """
    known = [name]
    if unit:
        known += [f"{node}/{unit}", f"{node}/{unit.removesuffix(SUFFIX)}"]
    return pattern in known or any(fnmatch.fnmatchcase(one, pattern) for one in known)


def select(pattern: str, workers: Sequence[WorkerView]) -> tuple[WorkerView, ...]:
    """The workers that `pattern` means, in their order; empty where it means none.

    A worker called exactly so comes alone, whatever else the pattern would match.
    """
    exact = tuple(worker for worker in workers if worker.name == pattern)
    if exact:
        return exact
    return tuple(
        worker
        for worker in workers
        if matches(pattern, worker.node, worker.name, worker.unit.name or None)
    )

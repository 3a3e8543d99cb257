"""A worker's whole context: a llama-server's own figure is that of one slot."""

from __future__ import annotations

from msgspec.structs import replace

from llamatop.model.observed import WorkerSample

# What it is worked out from.
CONTEXT_IS_OF = frozenset({"engine", "launch", "context_tokens", "slots_total"})


def with_whole_context(worker: WorkerSample) -> WorkerSample:
    """The worker with `context_tokens` of all its slots together.

    Without --parallel the slots share one cache, and each reports the whole of it.
    """
    if worker.engine != "llama-server":
        return worker
    whole = worker.launch.context_tokens
    if not whole:
        if worker.context_tokens is None or worker.launch.source is None:
            return worker
        slots = worker.slots_total or 1
        whole = worker.context_tokens * (slots if worker.launch.parallel else 1)
    if whole == worker.context_tokens:
        return worker
    return replace(worker, context_tokens=whole)

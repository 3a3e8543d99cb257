"""Slots that were just given a task and still show the counts of the one before.

Builds of llama-server until mid-2026 clear a slot's counts when the first batch of its new task
is made, not when the task is given: a read in between shows the new task's id over the old task's
final counts, which the counter holds by then.
"""

from __future__ import annotations

from msgspec.structs import replace

from llamatop.model.observed import Slot


def holds_leftovers(before: Slot | None, now: Slot, steps: float | None) -> bool:
    """Whether `now` counts an older task; `steps` is the most that a slot generated in between."""
    generated = now.generated_tokens or 0
    if not now.busy or generated <= 0:
        return False
    if now.remaining_tokens == 0:
        return True
    if before is None or None in (before.task_id, before.prompt_tokens, now.prompt_tokens):
        return False
    grown = generated - (before.generated_tokens or 0)
    context = (now.prompt_tokens or 0) - (before.prompt_tokens or 0)
    if before.task_id == now.task_id:
        return before.busy and before.generated_tokens == 0 and context == 0 and grown > 1
    if before.prompt_tokens_processed != now.prompt_tokens_processed:
        return False
    if not before.busy:
        return context == 0
    if grown < 0 or abs(context - grown) > 1:
        return False
    if before.remaining_tokens is not None:
        if now.remaining_tokens is None:
            return False
        if now.remaining_tokens + grown != before.remaining_tokens:
            return False
    return steps is not None and generated > steps + 1


def cleared(slot: Slot) -> Slot:
    """The slot as it is: at the start of its new task."""
    return replace(slot, generated_tokens=0, prompt_tokens_processed=0, remaining_tokens=None)

"""Glances: reads of the slots between two ticks, for servers whose requests fit between ticks.

A server of 250 tokens a second ends a request of 50 within a fifth of a second: read once a second
it would show neither that request nor how long the others were.
"""

from __future__ import annotations

from . import slots as of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    Sample = Dict[str, Any]

MOST = 3
# tokens that one slot may make between two reads
_TOKENS = 40
_PACE_MEMORY = 0.8
_CHANGED_SECONDS = 10.0


def watch(state: Dict[str, Any], slots: of.Slots, at: float | None) -> None:
    """Take note of a read: how fast a slot generates, and when a slot last changed its task."""
    before, state["slots_before"] = state.get("slots_before"), (slots, at)
    if before is None or at is None or before[1] is None or at <= before[1]:
        return
    fastest = 0
    for number, slot in slots.items():
        old = before[0].get(number, {})
        same = old.get("task_id") == slot.get("task_id")
        if not same:
            state["changed_at"] = at
        if slot["busy"]:
            began = old.get("generated_tokens", 0) if same else 0
            fastest = max(fastest, slot.get("generated_tokens", 0) - began)
    state.setdefault("newest_task", (_newest(before[0]), before[1]))
    pace = max(fastest / (at - before[1]), _steps_a_second(state, slots, at))
    state["pace"] = max(pace, _PACE_MEMORY * state.get("pace", 0.0))


def _steps_a_second(state: Dict[str, Any], slots: of.Slots, at: float) -> float:
    """By the ids of tasks: the server draws one for every step, however short its requests are."""
    newest, (before, since) = _newest(slots), state["newest_task"]
    if newest <= before:
        return 0.0
    state["newest_task"] = (newest, at)
    pace: float = (newest - before) / (at - since)
    return pace


def _newest(slots: of.Slots) -> int:
    return max((slot.get("task_id", 0) for slot in slots.values()), default=0)


def wanted(state: Dict[str, Any], interval: float) -> int:
    """Glances that a tick of `interval` seconds wants: none while slow, idle, or the tasks stay."""
    slots, at = state.get("slots_before") or ({}, None)
    if at is None or not working(slots):
        return 0
    if "pace" not in state:
        # one read tells no pace
        return MOST
    if at - state.get("changed_at", -_CHANGED_SECONDS) > _CHANGED_SECONDS:
        return 0
    return min(int(state.get("pace", 0.0) * interval / _TOKENS), MOST)


def working(slots: of.Slots) -> bool:
    """Whether a slot is busy: an idle server is left alone, it may want to sleep."""
    return any(slot["busy"] for slot in slots.values())


def rows(glances: List[Sample], sample: Sample) -> List[Any]:
    """The glances of a tick as the wire carries them: [seconds before the tick's read, entries].

    An entry a slot, in the order of their numbers: the tokens that its task went on to make until
    the next read, or else its whole row. `read` turns them back.
    """
    after = sample["slots"]
    numbers = sorted(after, key=int)
    found: List[Any] = []
    for glance in reversed(glances):
        slots = glance["slots"]
        if sorted(slots, key=int) == numbers:
            shown = of.rows(slots)
            entries: List[Any] = []
            for number in numbers:
                made = _made(slots[number], after[number])
                entries.append(shown[number] if made is None else made)
            before = sample["read_at_seconds"] - glance["at_seconds"]
            found.append([round(before, 3), entries])
            after = slots
    return found[::-1]


def read(given: Any, slots: Any, at: Any) -> List[Sample]:
    """The glances back from `rows`, with the slots and moment of the tick's read as on the wire.

    What is not of that shape is left out.
    """
    found: List[Sample] = []
    try:
        after = {number: list(slots[number]) for number in sorted(slots, key=int)}
        for before, entries in reversed(given):
            now = {
                number: _earlier(row, entries[place])
                for place, (number, row) in enumerate(after.items())
            }
            found.append({"at_seconds": at - before, "slots": now})
            after = now
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
        return []
    return found[::-1]


_PROMPT = of.FIELDS.index("prompt_tokens")
_GENERATED, _LEFT = of.FIELDS.index("generated_tokens"), of.FIELDS.index("remaining_tokens")


def _made(slot: Dict[str, Any], after: Dict[str, Any]) -> int | None:
    """Tokens that tell `slot` from `after`, None where more than they do."""
    if slot == after:
        return 0
    made: int = after.get("generated_tokens", 0) - slot.get("generated_tokens", 0)
    moved = {name: after[name] for name in slot if name in after}
    for name, sign in (("prompt_tokens", 1), ("generated_tokens", 1), ("remaining_tokens", -1)):
        if name in moved:
            moved[name] -= sign * made
    return made if made > 0 and moved == slot and len(slot) == len(after) else None


def _earlier(row: List[Any], entry: Any) -> List[Any]:
    if isinstance(entry, list):
        return entry
    earlier, made = list(row), entry
    if made:
        earlier[_PROMPT] -= made
        earlier[_GENERATED] -= made
        if len(earlier) > _LEFT:
            earlier[_LEFT] += made
    return earlier

"""The slots of a llama-server, from the body of /slots in every shape builds have given it."""

from __future__ import annotations

from .answers import listing, mapping, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    Slots = Dict[str, Dict[str, Any]]
    Rows = Dict[str, List[Any]]

MOST_SLOTS = 1024
# A slot on the wire is a row of these, in this order: there are many, and all change at every tick.
FIELDS = (
    "busy",
    "context_tokens",
    "task_id",
    "prompt_tokens",
    "prompt_tokens_processed",
    "prompt_tokens_cached",
    "generated_tokens",
    "remaining_tokens",
)


def parse(data: Any, first: int = 0) -> Slots:
    """Slots by number as text, counted from `first` where a router has several models.

    A slot never used has an id, its context and `busy` alone. One that was released holds no task
    any more: its counts are of a request that ended, so they are left out, except the prompt and
    cache that still stand in its context.
    """
    slots: Slots = {}
    for position, item in enumerate(listing(data)[:MOST_SLOTS]):
        given = mapping(item)
        number = whole(given.get("id"))
        if first or number is None or str(number) in slots:
            number = position + first
        slots[str(number)] = _slot(number, given)
    return slots


def _slot(number: int, given: Dict[str, Any]) -> Dict[str, Any]:
    slot: Dict[str, Any] = {"id": number, "busy": given.get("is_processing") is True}
    if "is_processing" not in given:
        # builds of 2024 had `state`: 0 idle, 1 processing
        slot["busy"] = whole(given.get("state")) == 1
    _put(slot, "context_tokens", given.get("n_ctx"))
    _put(slot, "task_id", given.get("id_task"))
    _put(slot, "prompt_tokens", given.get("n_prompt_tokens"))
    _put(slot, "prompt_tokens_processed", given.get("n_prompt_tokens_processed"))
    _put(slot, "prompt_tokens_cached", given.get("n_prompt_tokens_cache"))
    following = given.get("next_token")
    if isinstance(following, list):
        following = following[0] if following else None
    if slot["busy"]:
        _put(slot, "generated_tokens", mapping(following).get("n_decoded"))
        _put(slot, "remaining_tokens", mapping(following).get("n_remain"))
        if slot.get("remaining_tokens", 0) < 0:
            del slot["remaining_tokens"]
    return slot


def rows(slots: Slots) -> Rows:
    """The slots as the wire carries them: by number, the figures of FIELDS without the last None.

    `llamatop.collect.readers` and, where nothing else moves, `collect.ticks` read them back.
    """
    found: Rows = {}
    for number, slot in slots.items():
        row = [slot.get(name) for name in FIELDS]
        while row and row[-1] is None:
            row.pop()
        found[number] = row
    return found


def _put(slot: Dict[str, Any], name: str, value: Any) -> None:
    number = whole(value)
    if number is not None:
        slot[name] = number

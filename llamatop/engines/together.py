"""Several llama-servers' samples as one: a router's models, or the children of an Ollama."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Dict

    from .exchange import Sample

_ADDED_UP = ("requests_processing", "requests_deferred", "slots_total")


def join(parts: Sequence[Sample]) -> Sample:
    """Slots numbered on from part to part, counters and requests added up.

    A part that gave no answer is {}. Slots and requests that one part does not tell are unknown of
    the whole: the others' alone would look idle; what sleeps has none. `identity` names every
    part that tells, as their counters come and go with them.
    """
    whole: Sample = {}
    awake = [part for part in parts if not part.get("sleeping")]
    if all(part.get("slots") is not None for part in awake):
        every = [slot for part in parts for slot in (part.get("slots") or {}).values()]
        whole["slots"] = {str(place): {**slot, "id": place} for place, slot in enumerate(every)}
    for name in _ADDED_UP:
        told = [part.get(name, 0 if part.get("sleeping") else None) for part in parts]
        if None not in told:
            whole[name] = sum(told)
    counters: Dict[str, Any] = {}
    for part in parts:
        for name, value in (part.get("counters") or {}).items():
            if name == "live":
                counters[name] = value
            elif name.endswith("_step"):
                counters[name] = max(counters.get(name, 0), value)
            else:
                counters[name] = counters.get(name, 0) + value
        for name in ("read_at_seconds", "metrics"):
            if part.get(name) is not None:
                whole[name] = part[name]
    whole["identity"] = ",".join(str(part.get("identity", "")) for part in parts)
    whole["counters"] = counters
    if len(parts) == 1:
        for name in ("model", "context_tokens", "sleeping"):
            whole[name] = parts[0].get(name)
    return {name: value for name, value in whole.items() if value is not None}

"""The conversation with Ollama: it tells its models; its llama-server children tell the slots."""

from __future__ import annotations

from .answers import judge, known, listing, mapping, text, whole
from .exchange import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .exchange import Conversation, Memory, Sample

NAME = "ollama"
DEFAULT_PORTS = (11434,)
_VERSION_EVERY = 60


def read(memory: Memory, key: bool) -> Conversation:
    """One tick: a WorkerSample-shaped dict; without children it knows neither slots nor counts."""
    sample: Sample = {"engine": NAME}
    response = yield Request("GET", "/api/ps")
    answer = judge(response, "/api/ps", key)
    if answer.health is None and not isinstance(mapping(answer.data).get("models"), list):
        # Ollama with nothing loaded gives an empty list, other programs 404 or another shape
        answer.health = "error"
        answer.fault = "/api/ps has no list of models; does another program listen on this port?"
    if answer.health is not None:
        memory["state"] = {}
        return known({**sample, "health": answer.health, "fault": answer.fault})
    sample.update(_loaded(answer.data))
    sample["health"] = "ok"
    sample["latency_seconds"] = response.seconds
    sample["read_at_seconds"] = response.at_seconds
    state = memory.setdefault("state", {})
    if state.get("ticks", 0) % _VERSION_EVERY == 0:
        response = yield Request("GET", "/api/version")
        answer = judge(response, "/api/version", key)
        state["build"] = text(mapping(answer.data).get("version"))
    state["ticks"] = state.get("ticks", 0) + 1
    sample["build"] = state.get("build")
    return known(sample)


def check(memory: Memory) -> Conversation:
    """Whether an Ollama that is slow to answer `read` lives."""
    response = yield Request("GET", "/api/version", 2.0)
    if response.status == 200:
        return {"health": "busy"}
    answer = judge(response, "/api/version", False)
    return known({"health": answer.health or "error", "fault": answer.fault})


def _loaded(data: Any) -> Sample:
    models = [mapping(item) for item in listing(mapping(data).get("models"))]
    names = [name for name in (text(item.get("name")) for item in models) if name is not None]
    sample: Sample = {"model_names": names}
    if names:
        sample["model"] = names[0]
    contexts = [whole(item.get("context_length")) for item in models]
    if len(contexts) == 1 and contexts[0]:
        sample["context_tokens"] = contexts[0]
    return sample


def attach(sample: Sample, children: Sequence[Sample]) -> Sample:
    """`sample` with the slots and counts of the llama-servers that this Ollama has spawned."""
    joined = dict(sample)
    answered = [child for child in children if child.get("health") == "ok" and child.get("slots")]
    if not answered or sample.get("health") != "ok":
        return joined
    slots: Sample = {}
    for child in answered:
        for slot in child["slots"].values():
            number = len(slots)
            slots[str(number)] = {**slot, "id": number}
    joined["slots"] = slots
    joined["slots_total"] = len(slots)
    if len(answered) == 1:
        for name in ("counters", "requests_processing", "requests_deferred", "read_at_seconds"):
            if answered[0].get(name) is not None:
                joined[name] = answered[0][name]
    return joined

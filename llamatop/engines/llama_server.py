"""The conversation with a llama-server: what is asked, in which order, and what is left alone.

Steady state is two questions a tick on one connection, /metrics and then /slots, so that the
counters are read just before the slots and `read_at_seconds` is the moment of /slots.

`memory` is the caller's dict, one a worker. What the caller may put in: `url` for sentences,
`may_sleep` (whether --sleep-idle-seconds is set, None unknown), `active` (whether the process has
used a processor since the last tick, None unknown), `describe` (whether to tell the number of the
model's parameters). The conversation keeps its own under "state".

A worker that may sleep is asked only what cannot wake it or hold it awake while nothing shows that
it works: /props. /slots resets its timer, and so does /metrics in builds of mid-2026.
"""

from __future__ import annotations

from . import glances, router, slots
from .answers import Answer, flag, judge, known, listing, mapping, text, whole
from .exchange import Request
from .prometheus import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Dict

    from .exchange import Conversation, Memory, Response, Sample

    Part = Generator[Request, Response, Sample]

NAME = "llama-server"
DEFAULT_PORTS = (8080, 9931)
PATIENCE_SECONDS = 30.0
_PROPS_EVERY = 30
# what a model takes in beside text where it was given a projector for it
_SENSES = ("vision", "audio", "video")
_LONGEST_PAUSE = 300

_PROMPT = b"llamacpp:prompt_tokens_total"
_GENERATED = b"llamacpp:tokens_predicted_total"
_PROCESSING = b"llamacpp:requests_processing"
_DEFERRED = b"llamacpp:requests_deferred"
_KV_USAGE = b"llamacpp:kv_cache_usage_ratio"
_WANTED = (_PROMPT, _GENERATED, _PROCESSING, _DEFERRED, _KV_USAGE)


def read(memory: Memory, key: bool) -> Conversation:
    """One tick: a WorkerSample-shaped dict, whatever the worker answers."""
    state = memory.get("state")
    if not isinstance(state, dict):
        state = memory["state"] = {}
    sample: Sample = {"engine": NAME}
    if state.get("router"):
        part = yield from router.read(state, key, _one_model)
    else:
        part = yield from _one_model(state, key, "", memory.get("may_sleep"), memory.get("active"))
        if state.get("router"):
            part = yield from router.read(state, key, _one_model)
    sample.update(part)
    if memory.get("describe") and sample.get("health") == "ok":
        sample.update((yield from _described(state, key)))
    if sample.get("health") not in ("ok", "busy"):
        # after a restart nothing that was learned before holds
        memory["state"] = {}
    return sample


def check(memory: Memory) -> Conversation:
    """Whether a worker that is slow to answer `read` lives: /health never waits for the model."""
    response = yield Request("GET", "/health", 2.0)
    if response.status == 200:
        return {"health": "busy"}
    answer = judge(response, "/health", False)
    return known({"health": answer.health or "error", "fault": answer.fault})


def wanted(memory: Memory, interval: float) -> int:
    """How many times `glance` wants to be held before the next `read`, `interval` seconds on."""
    state = memory.get("state") or {}
    return 0 if state.get("router") else glances.wanted(state, interval)


def glance(memory: Memory) -> Conversation:
    """The slots between two reads, kept in `memory` for the next one; nothing where that fails."""
    state = memory.get("state") or {}
    if not glances.working((state.get("slots_before") or ({},))[0]):
        return {}
    response = yield Request("GET", "/slots")
    answer = judge(response, "/slots", False)
    if isinstance(answer.data, list) and response.at_seconds is not None:
        found = slots.parse(answer.data)
        glances.watch(state, found, response.at_seconds)
        state.setdefault("glances", []).append({"at_seconds": response.at_seconds, "slots": found})
    return {}


def _one_model(
    state: Dict[str, Any], key: bool, query: str, may_sleep: bool | None, active: bool | None
) -> Part:
    """One model of one server; `query` picks it behind a router ("?model=x&autoload=false")."""
    sample: Sample = {}
    state["ticks"] = state.get("ticks", -1) + 1
    shy = may_sleep is True or state.get("slept", False)
    if shy or state["ticks"] % _PROPS_EVERY == 0:
        answer = yield from _props(state, key, query)
        if answer.health is not None:
            return known({"health": answer.health, "fault": answer.fault})
    if state.get("router"):
        return {}
    sample.update(state.get("props", {}))
    if state.get("sleeping"):
        sample["health"] = "ok"
        sample["latency_seconds"] = state["latency"]
        sample["read_at_seconds"] = state["at"]
        return known(sample)
    if shy and _pausing(state, active):
        sample.update(state["last"])
        sample["read_at_seconds"] = state["at"]
        return known(sample)
    part = yield from _figures(state, key, query)
    sample.update(part)
    if sample["health"] == "ok":
        state["last"] = part
        state["idle"] = not _works(part)
    looked = state.pop("glances", None)
    if looked and "slots" in part:
        sample["glances"] = looked
    return known(sample)


def _pausing(state: Dict[str, Any], active: bool | None) -> bool:
    """Whether to leave a worker alone that may want to sleep, showing what was last seen of it."""
    if not state.get("idle") or "last" not in state:
        state["pause"] = state["paused"] = 0
        return False
    if active is not None:
        return not active
    if state.pop("woke", False):
        state["pause"] = state["paused"] = 0
        return False
    # nothing tells whether it works: ask ever more rarely, until it could fall asleep between
    if state.get("paused", 0) < state.get("pause", 0):
        state["paused"] += 1
        return True
    state["pause"] = min(2 * state.get("pause", 0) + 1, _LONGEST_PAUSE)
    state["paused"] = 0
    return False


def _works(part: Sample) -> bool:
    if part.get("requests_processing") or part.get("requests_deferred"):
        return True
    return any(slot["busy"] for slot in (part.get("slots") or {}).values())


def _props(state: Dict[str, Any], key: bool, query: str) -> Generator[Request, Response, Answer]:
    response = yield Request("GET", "/props" + query)
    answer = judge(response, "/props", key)
    if answer.health is not None:
        return answer
    if not isinstance(answer.data, dict):
        if answer.off:
            return answer
        return Answer(health="error", fault="/props is JSON, but not an object")
    data = mapping(answer.data)
    if data.get("role") == "router":
        state["router"] = True
        state["build"] = text(data.get("build_info"))
        return answer
    sleeping = flag(data.get("is_sleeping"))
    state["woke"] = bool(state.get("sleeping")) and not sleeping
    state["sleeping"] = sleeping is True
    state["slept"] = state.get("slept", False) or sleeping is True
    state["at"] = response.at_seconds
    state["latency"] = response.seconds
    settings = mapping(data.get("default_generation_settings"))
    state["model_path"] = text(data.get("model_path"))
    state["sees"] = any(mapping(data.get("modalities")).get(one) is True for one in _SENSES)
    state["props"] = {
        "model": model_name(text(data.get("model_alias")) or text(data.get("model_path"))),
        "build": text(data.get("build_info")),
        "sleeping": sleeping,
        "slots_total": whole(data.get("total_slots")),
        "context_tokens": whole(settings.get("n_ctx")),
    }
    return answer


def _described(state: Dict[str, Any], key: bool) -> Part:
    """What tells one model from another behind file names that are digests, asked once."""
    if "described" not in state:
        response = yield Request("GET", "/v1/models")
        models = listing(mapping(judge(response, "/v1/models", key).data).get("data"))
        meta = mapping(mapping(models[0]).get("meta")) if models else {}
        state["described"] = known({"parameters": whole(meta.get("n_params"))})
    found: Sample = state["described"]
    return found


def model_path(memory: Memory) -> str | None:
    """The file that it says it has loaded, whatever it was told; None before it has answered."""
    state = memory.get("state")
    path = state.get("model_path") if isinstance(state, dict) else None
    return path if isinstance(path, str) else None


def projects(memory: Memory) -> bool:
    """Whether it has loaded a projector for images or sound, as it does by itself with -hf."""
    state = memory.get("state")
    return isinstance(state, dict) and state.get("sees") is True


def model_name(name: str | None) -> str | None:
    """The name without folder and ending where it is a file's: what `--alias` is by default."""
    if name is not None and name.endswith(".gguf"):
        return name.rsplit("/", 1)[-1][: -len(".gguf")] or name
    return name


def _figures(state: Dict[str, Any], key: bool, query: str) -> Part:
    """Counters and slots, or the health that stands in their way."""
    sample: Sample = {"health": "ok"}
    if state.get("metrics") is not False:
        response = yield Request("GET", "/metrics" + query, PATIENCE_SECONDS)
        answer = judge(response, "/metrics", key, text=True)
        if answer.health is not None:
            return {"health": answer.health, "fault": answer.fault}
        state["metrics"] = not answer.off
        sample.update(_counters(response, answer))
    sample["metrics"] = state["metrics"]
    if state.get("slots") is not False:
        response = yield Request("GET", "/slots" + query, PATIENCE_SECONDS)
        answer = judge(response, "/slots", key)
        if answer.health is not None:
            return {"health": answer.health, "fault": answer.fault}
        state["slots"] = not answer.off
        if answer.off:
            sample["latency_seconds"] = response.seconds
        elif not isinstance(answer.data, list):
            return {"health": "error", "fault": "/slots is JSON, but not a list of slots"}
        else:
            sample.update(_slots(response, answer.data))
            glances.watch(state, sample["slots"], response.at_seconds)
    if state["metrics"] is False and state["slots"] is False:
        response = yield Request("GET", "/health")
        answer = judge(response, "/health", key)
        sample["latency_seconds"] = response.seconds
        sample["read_at_seconds"] = response.at_seconds
        if answer.health is not None:
            return {"health": answer.health, "fault": answer.fault}
    return sample


def _counters(response: Response, answer: Answer) -> Sample:
    if answer.off:
        return {}
    found = values(answer.data, _WANTED)
    counters: Sample = {"live": False}
    for name, prefix in ((_GENERATED, "generation"), (_PROMPT, "prompt")):
        if name in found:
            counters[prefix + "_tokens_total"], counters[prefix + "_tokens_step"] = found[name]
    usage = found.get(_KV_USAGE, (None, 0.0))[0]
    started = response.headers.get("process-start-time-unix")
    return {
        "counters": counters if len(counters) > 1 else {},
        "requests_processing": _count(found, _PROCESSING),
        "requests_deferred": _count(found, _DEFERRED),
        "kv_cache_percent": None if usage is None else round(100 * usage, 1),
        "identity": text(started),
        "latency_seconds": response.seconds,
        "read_at_seconds": response.at_seconds,
    }


def _count(found: Dict[bytes, Any], name: bytes) -> int | None:
    return whole(found[name][0]) if name in found else None


def _slots(response: Response, data: Any) -> Sample:
    found = slots.parse(data)
    contexts = {slot.get("context_tokens") for slot in found.values()}
    sample: Sample = {
        "slots": found,
        "slots_total": len(found),
        "latency_seconds": response.seconds,
        "read_at_seconds": response.at_seconds,
    }
    if len(contexts) == 1 and None not in contexts:
        sample["context_tokens"] = contexts.pop()
    return sample

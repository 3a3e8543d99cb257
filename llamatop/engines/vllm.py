"""The conversation with vLLM: one read of /metrics a tick; its counters advance while it works."""

from __future__ import annotations

from .answers import judge, known, listing, mapping, text, whole
from .exchange import Request
from .prometheus import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Dict

    from .exchange import Conversation, Memory, Response, Sample

NAME = "vllm"
DEFAULT_PORTS = (8000,)
_NAMES_EVERY = 60

_RUNNING = b"vllm:num_requests_running"
_WAITING = b"vllm:num_requests_waiting"
_KV_USAGE = b"vllm:kv_cache_usage_perc"
_OLD_KV_USAGE = b"vllm:gpu_cache_usage_perc"
_PROMPT = b"vllm:prompt_tokens_total"
_GENERATED = b"vllm:generation_tokens_total"
_STARTED = b"process_start_time_seconds"
_WANTED = (_RUNNING, _WAITING, _KV_USAGE, _OLD_KV_USAGE, _PROMPT, _GENERATED, _STARTED)


def read(memory: Memory, key: bool) -> Conversation:
    """One tick: a WorkerSample-shaped dict; vLLM has no slots."""
    sample: Sample = {"engine": NAME}
    state = memory.setdefault("state", {})
    response = yield Request("GET", "/metrics", 10.0)
    answer = judge(response, "/metrics", key, text=True)
    sample["latency_seconds"] = response.seconds
    sample["read_at_seconds"] = response.at_seconds
    if answer.off:
        response = yield Request("GET", "/health")
        answer = judge(response, "/health", key, text=True)
        sample["metrics"] = False
        if response.status == 200:
            # a healthy /health is empty
            answer.health = answer.fault = None
    elif answer.health is None:
        sample.update(_figures(answer.data))
    if answer.health is not None or answer.off:
        memory["state"] = {}
        fault = answer.fault or ("/health is missing" if answer.off else None)
        return known({"engine": NAME, "health": answer.health or "error", "fault": fault})
    sample["health"] = "ok"
    if state.get("ticks", 0) % _NAMES_EVERY == 0:
        yield from _names(state, key)
    state["ticks"] = state.get("ticks", 0) + 1
    sample.update(state.get("names", {}))
    return known(sample)


def check(memory: Memory) -> Conversation:
    """Whether a vLLM that is slow to answer `read` lives."""
    response = yield Request("GET", "/health", 2.0)
    if response.status == 200:
        return {"health": "busy"}
    answer = judge(response, "/health", False, text=True)
    return known({"health": answer.health or "error", "fault": answer.fault})


def _names(state: Dict[str, Any], key: bool) -> Generator[Request, Response, None]:
    names: Sample = {}
    response = yield Request("GET", "/version")
    names["build"] = text(mapping(judge(response, "/version", key).data).get("version"))
    response = yield Request("GET", "/v1/models")
    answer = judge(response, "/v1/models", key)
    if answer.health == "unauthorized":
        # the key guards /v1 alone: everything else is known without it
        names["fault"] = "/v1/models " + (answer.fault or "")
    models = [mapping(item) for item in listing(mapping(answer.data).get("data"))]
    names["model_names"] = [name for name in (text(m.get("id")) for m in models) if name]
    if models:
        names["model"] = text(models[0].get("id"))
        names["context_tokens"] = whole(models[0].get("max_model_len"))
    state["names"] = known(names)


def _figures(body: bytes) -> Sample:
    found = values(body, _WANTED)
    counters: Sample = {"live": True}
    for name, prefix in ((_GENERATED, "generation"), (_PROMPT, "prompt")):
        if name in found:
            # prometheus_client prints every digit it has
            counters[prefix + "_tokens_total"] = found[name][0]
            counters[prefix + "_tokens_step"] = 1.0
    usage = found.get(_KV_USAGE, found.get(_OLD_KV_USAGE))
    engines = max(1, body.count(b"\n" + _RUNNING + b"{"))
    started = found.get(_STARTED)
    return known(
        {
            "metrics": True,
            "counters": counters if len(counters) > 1 else {},
            "requests_processing": _count(found, _RUNNING),
            "requests_deferred": _count(found, _WAITING),
            "kv_cache_percent": None if usage is None else round(100 * usage[0] / engines, 1),
            "identity": None if started is None else repr(started[0]),
        }
    )


def _count(found: Dict[bytes, Any], name: bytes) -> int | None:
    return whole(found[name][0]) if name in found else None

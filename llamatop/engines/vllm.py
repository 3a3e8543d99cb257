"""The conversation with vLLM: one read of /metrics a tick; its counters advance while it works."""

from __future__ import annotations

from .answers import judge, known, listing, mapping, text, whole
from .exchange import Request
from .moments import gained
from .prometheus import labels, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Dict, List

    from .exchange import Conversation, Memory, Response, Sample

NAME = "vllm"
DEFAULT_PORTS = (8000,)
_NAMES_EVERY = 60
_MOST_ENGINES = 64
_FIRST_TOKEN_SECONDS = 10.0
_PREEMPTED_SECONDS = 60.0

_RUNNING = b"vllm:num_requests_running"
_WAITING = b"vllm:num_requests_waiting"
_KV_USAGE = b"vllm:kv_cache_usage_perc"
_OLD_KV_USAGE = b"vllm:gpu_cache_usage_perc"
_PROMPT = b"vllm:prompt_tokens_total"
_GENERATED = b"vllm:generation_tokens_total"
_PREEMPTED = b"vllm:num_preemptions_total"
_FIRST_SUM = b"vllm:time_to_first_token_seconds_sum"
_FIRST_COUNT = b"vllm:time_to_first_token_seconds_count"
_SLEEP = b"vllm:engine_sleep_state"
_ADAPTERS = b"vllm:lora_requests_info"
_STARTED = b"process_start_time_seconds"
_BY_ENGINE = {_RUNNING: "running", _WAITING: "waiting", _KV_USAGE: "kv", _OLD_KV_USAGE: "kv"}
_ADDED_UP = (_RUNNING, _WAITING, _PROMPT, _GENERATED, _PREEMPTED, _FIRST_SUM, _FIRST_COUNT)
_WANTED = (*_ADDED_UP, _KV_USAGE, _OLD_KV_USAGE, _SLEEP, _ADAPTERS, _STARTED)


def read(memory: Memory, key: bool) -> Conversation:
    """One tick: a WorkerSample-shaped dict; vLLM has no slots.

    The caller may put `young` into `memory`, whether the process is: vLLM opens its port when the
    model is loaded, so that a young one that has not answered yet loads.
    """
    sample: Sample = {"engine": NAME}
    state = memory.setdefault("state", {})
    response = yield Request("GET", "/metrics", 10.0)
    if response.refused and memory.get("young") and not memory.get("answered"):
        return {"engine": NAME, "health": "loading"}
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
        sample.update(_figures(answer.data, response.at_seconds, state))
    if answer.health is not None or answer.off:
        memory["state"] = {}
        fault = answer.fault or ("/health is missing" if answer.off else None)
        return known({"engine": NAME, "health": answer.health or "error", "fault": fault})
    memory["answered"] = True
    sample["health"] = "ok"
    if state.get("ticks", 0) % _NAMES_EVERY == 0:
        yield from _names(state, key)
    state["ticks"] = state.get("ticks", 0) + 1
    sample.update(state.get("names", {}))
    return known(sample)


def check(memory: Memory) -> Conversation:
    """Whether a vLLM that is slow to answer `read` lives."""
    response = yield Request("GET", "/health", 1.5)
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
    # an adapter names the model that it is laid over
    adapters = [text(model.get("id")) for model in models if text(model.get("parent"))]
    names["adapters"] = [name for name in adapters if name] or None
    if models:
        names["model"] = text(models[0].get("id"))
        names["context_tokens"] = whole(models[0].get("max_model_len"))
    state["names"] = known(names)


def _figures(body: bytes, at: float | None, state: Dict[str, Any]) -> Sample:
    sums: Dict[bytes, float] = {}
    engines: Dict[str, Dict[str, float]] = {}
    asleep = False
    adapters = (0.0, "")
    started = None
    for name, inside, number, _ in rows(body, _WANTED):
        if name in _ADDED_UP:
            sums[name] = sums.get(name, 0.0) + number
        if name in _BY_ENGINE:
            # before 2025 there was one engine and no such label
            engine = engines.setdefault(labels(inside).get("engine", "0"), {})
            figure = _BY_ENGINE[name]
            engine[figure] = engine.get(figure, 0.0) + number
        elif name == _SLEEP:
            asleep = asleep or (number > 0 and labels(inside).get("sleep_state") != "awake")
        elif name == _ADAPTERS and number > adapters[0]:
            # a series for each set of adapters that ever ran; its value is when it last did
            adapters = (number, labels(inside).get("running_lora_adapters", ""))
        elif name == _STARTED:
            started = repr(number)
    counters: Sample = {"live": True}
    for name, prefix in ((_GENERATED, "generation"), (_PROMPT, "prompt")):
        if name in sums:
            # prometheus_client prints every digit it has
            counters[prefix + "_tokens_total"] = sums[name]
            counters[prefix + "_tokens_step"] = 1.0
    usages = [engine["kv"] for engine in engines.values() if "kv" in engine]
    sample = {
        # with --disable-log-stats only Python's own figures are left
        "metrics": bool(sums),
        "counters": counters if len(counters) > 1 else {},
        "requests_processing": _count(sums, _RUNNING),
        "requests_deferred": _count(sums, _WAITING),
        "kv_cache_percent": round(100 * sum(usages) / len(usages), 1) if usages else None,
        "preemptions_total": _count(sums, _PREEMPTED),
        "sleeping": asleep or None,
        "identity": started,
    }
    if sums.get(_RUNNING) and adapters[1]:
        sample["adapters_busy"] = adapters[1].split(",")
    if len(engines) > 1:
        sample["engines"] = _engines(engines)
    if at is not None:
        sample.update(_recent(sums, at, state))
    return known(sample)


def _engines(engines: Dict[str, Dict[str, float]]) -> Dict[str, Any]:
    """Each data-parallel engine's load by its number."""
    found: Dict[str, Any] = {}
    for name in sorted(engines, key=lambda name: (len(name), name))[:_MOST_ENGINES]:
        engine = engines[name]
        usage = engine.get("kv")
        found[name] = known(
            {
                "running": whole(engine.get("running")),
                "waiting": whole(engine.get("waiting")),
                "kv_cache_percent": None if usage is None else round(100 * usage, 1),
            }
        )
    return found


def _recent(sums: Dict[bytes, float], at: float, state: Dict[str, Any]) -> Sample:
    """What the last seconds brought: the mean time to a first token, and preemptions."""
    sample: Sample = {}
    reads: List[Any]
    if _FIRST_SUM in sums and _FIRST_COUNT in sums:
        reads = state.setdefault("first_tokens", [])
        counts = [sums[_FIRST_SUM], sums[_FIRST_COUNT]]
        firsts = gained(reads, at, counts, _FIRST_TOKEN_SECONDS)
        if firsts is not None and firsts[1] > 0:
            sample["first_token_seconds"] = round(firsts[0] / firsts[1], 3)
    if _PREEMPTED in sums:
        reads = state.setdefault("preempted", [])
        preempted = gained(reads, at, [sums[_PREEMPTED]], _PREEMPTED_SECONDS)
        sample["preemptions_recent"] = None if preempted is None else whole(preempted[0])
    return sample


def _count(sums: Dict[bytes, float], name: bytes) -> int | None:
    return whole(sums[name]) if name in sums else None

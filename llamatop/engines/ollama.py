"""The conversation with Ollama: it tells its models; its llama-server children tell the slots.

A tick asks /api/ps, which reads memory alone. /api/version is asked rarely, and /api/tags more
rarely still: it looks at every model's files. None of them loads a model or keeps one loaded.
"""

from __future__ import annotations

from . import together
from .answers import judge, known, listing, mapping, text, whole
from .exchange import Request
from .moments import http_date, rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import Any, Dict, List

    from .exchange import Conversation, Memory, Response, Sample

    Models = Dict[str, Dict[str, Any]]

NAME = "ollama"
DEFAULT_PORTS = (11434,)
_VERSION_EVERY = 60
_TAGS_EVERY = 300
_TAGS_AGAIN = 30
_MOST_MODELS = 500
_DIGEST = 12
# `keep_alive: -1` is written as the year 2318
_FOREVER_SECONDS = 10 * 365 * 86400.0
# Date has whole seconds, and the answer takes some time
_JITTER_SECONDS = 1.5


def read(memory: Memory, key: bool) -> Conversation:
    """One tick: a WorkerSample-shaped dict; what runs in it is told by `attach` alone."""
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
    state = memory.setdefault("state", {})
    sample.update(_loaded(answer.data, response, state))
    sample["health"] = "ok"
    sample["latency_seconds"] = response.seconds
    sample["read_at_seconds"] = response.at_seconds
    ticks = state["ticks"] = state.get("ticks", -1) + 1
    if ticks % _VERSION_EVERY == 0:
        response = yield Request("GET", "/api/version")
        answer = judge(response, "/api/version", key)
        state["build"] = text(mapping(answer.data).get("version"))
    elif ticks >= state.get("tags_at", 0) or _unheard_of(sample["loaded"], state):
        yield from _present(state, key)
    sample["build"] = state.get("build")
    sample["present"] = state.get("present")
    return known(sample)


def check(memory: Memory) -> Conversation:
    """Whether an Ollama that is slow to answer `read` lives."""
    response = yield Request("GET", "/api/version", 1.5)
    if response.status == 200:
        return {"health": "busy"}
    answer = judge(response, "/api/version", False)
    return known({"health": answer.health or "error", "fault": answer.fault})


def _loaded(data: Any, response: Response, state: Dict[str, Any]) -> Sample:
    """The models in memory by name; `model` is the one that takes most of it."""
    clock, at = http_date(response.headers.get("date")), response.at_seconds
    before, state["expires"] = state.get("expires", {}), {}
    models: Models = {}
    for item in listing(mapping(data).get("models"))[:_MOST_MODELS]:
        given = mapping(item)
        name = text(given.get("name")) or text(given.get("model"))
        if name is None:
            continue
        details = mapping(given.get("details"))
        model: Dict[str, Any] = {
            "size_bytes": _size(given.get("size")),
            "gpu_bytes": _size(given.get("size_vram")),
            "context_tokens": whole(given.get("context_length")) or None,
            "parameters": text(details.get("parameter_size")),
            "quantization": text(details.get("quantization_level")),
        }
        expires = rfc3339(given.get("expires_at"))
        if expires is not None and expires > 0 and clock is not None and at is not None:
            left = expires - clock
            if left > _FOREVER_SECONDS:
                model["forever"] = True
            else:
                moment = round(at + left, 1)
                if abs(before.get(name, moment) - moment) < _JITTER_SECONDS:
                    moment = before.get(name, moment)
                model["expires_at_seconds"] = state["expires"][name] = moment
        models[name] = known(model)
    names = sorted(models, key=lambda name: (-models[name].get("size_bytes", 0), name))
    sample: Sample = {"loaded": models, "model_names": names}
    if names:
        sample["model"] = names[0]
    else:
        # what is not loaded does not run
        sample["slots"], sample["slots_total"] = {}, 0
    if len(names) == 1:
        sample["context_tokens"] = models[names[0]].get("context_tokens")
    return sample


def _size(value: Any) -> int | None:
    size = whole(value)
    return size if size is not None and size >= 0 else None


def _unheard_of(loaded: Models, state: Dict[str, Any]) -> bool:
    """Whether a model is loaded that was not there when the models present were last read."""
    present = state.get("present")
    if present is None or loaded.keys() <= present.keys():
        return False
    asked, state["asked"] = state.get("asked"), sorted(loaded)
    return bool(asked != state["asked"])


def _present(state: Dict[str, Any], key: bool) -> Generator[Request, Response, None]:
    """The models on its disk with their digests; Ollama that has just started lets one wait."""
    response = yield Request("GET", "/api/tags", 0.7)
    models = mapping(judge(response, "/api/tags", key).data).get("models")
    state["tags_at"] = state["ticks"] + (_TAGS_AGAIN if models is None else _TAGS_EVERY)
    if not isinstance(models, list):
        return
    state["present"] = {}
    for item in models[:_MOST_MODELS]:
        name = text(mapping(item).get("name"))
        if name is not None:
            digest = text(mapping(item).get("digest")) or ""
            state["present"][name] = digest.rpartition(":")[2][:_DIGEST]


def attach(sample: Sample, children: Sequence[Sample]) -> Sample:
    """`sample` with the slots and counts of the llama-servers that this Ollama has spawned.

    How many requests wait stays unknown: they wait in Ollama, which does not tell. Slots are
    unknown too as long as one loaded model's llama-server is not there or does not answer.
    """
    joined = dict(sample)
    if sample.get("health") not in ("ok", "busy") or not sample.get("loaded"):
        return joined
    answered = [
        child for child in children if child.get("health") in ("ok", "busy") and child.get("slots")
    ]
    complete = len(answered) == len(children) >= len(sample["loaded"])
    loaded = joined["loaded"] = {name: dict(model) for name, model in sample["loaded"].items()}
    for name, child in _pairs(loaded, children):
        if child.get("health") == "loading":
            loaded[name]["loading"] = True
        if child.get("gpu_layers") is not None:
            loaded[name]["gpu_layers"] = child["gpu_layers"]
        if child in answered and complete:
            first = sum(len(one["slots"]) for one in answered[: answered.index(child)])
            loaded[name]["slots"] = list(range(first, first + len(child["slots"])))
    if not answered:
        return joined
    whole_of = together.join(answered if complete else [*answered, {}])
    for name in ("slots", "slots_total", "counters", "requests_processing", "metrics", "identity"):
        if name in whole_of:
            joined[name] = whole_of[name]
    reads = [child["read_at_seconds"] for child in answered if child.get("read_at_seconds")]
    if reads:
        joined["read_at_seconds"] = max(reads)
    if any(child.get("health") == "busy" for child in answered):
        joined["health"] = "busy"
    if complete and len(answered) == 1 and "glances" in answered[0]:
        joined["glances"] = answered[0]["glances"]
    contexts = [slot.get("context_tokens") for slot in joined.get("slots", {}).values()]
    if contexts and None not in contexts:
        joined["context_tokens"] = sum(contexts)
    return joined


def _pairs(loaded: Models, children: Sequence[Sample]) -> List[Any]:
    """(name, child) where it is certain: by the number of parameters, or since one is left."""
    names, left, pairs = list(loaded), list(children), []
    alone = len(names) == len(left)
    moved = True
    while moved:
        moved = False
        for child in list(left):
            fitting = [name for name in names if _fits(loaded[name], child)]
            others = [one for one in left if one is not child]
            if len(fitting) == 1 and not any(_fits(loaded[fitting[0]], one) for one in others):
                pairs.append((fitting[0], child))
                names.remove(fitting[0])
                left.remove(child)
                moved = True
    if alone and len(left) == 1:
        pairs.append((names[0], left[0]))
    return pairs


def _fits(model: Dict[str, Any], child: Sample) -> bool:
    parameters = child.get("parameters")
    return parameters is not None and model.get("parameters") == shortened(parameters)


def shortened(number: int) -> str:
    """A count of parameters as Ollama writes it: 8.0B, 494.03M."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if number >= unit:
            return "%.*f%s" % (0 if number % unit == 0 else digits, number / unit, letter)
    return "%.0fK" % (number / 1000) if number >= 1000 else str(number)

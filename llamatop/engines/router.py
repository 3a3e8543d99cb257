"""A llama-server in router mode: the models it has loaded, and never one more by looking.

Every question about a model carries `autoload=false`; models that are not loaded are not asked
about, and a model asleep is left asleep.
"""

from __future__ import annotations

from urllib.parse import quote

from . import together
from .answers import judge, listing, mapping, text
from .exchange import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Dict

    from .exchange import Response, Sample

    Part = Generator[Request, Response, Sample]
    OneModel = Callable[[Dict[str, Any], bool, str, "bool | None", "bool | None"], Part]

_MOST_MODELS = 16


def read(state: Dict[str, Any], key: bool, one_model: OneModel) -> Part:
    """All loaded models as one sample: slots numbered on, counters added up.

    Where one of them does not tell its slots, those of the router are unknown.
    `identity` names the loaded models too, as their counters come and go with them.
    """
    response = yield Request("GET", "/models")
    answer = judge(response, "/models", key)
    if answer.health is not None:
        return {"health": answer.health, "fault": answer.fault}
    sample: Sample = {
        "health": "ok",
        "router": True,
        "build": state.get("build"),
        "latency_seconds": response.seconds,
        "read_at_seconds": response.at_seconds,
    }
    models = _models(answer.data)
    loaded = [name for name, (value, _) in models.items() if value in ("loaded", "sleeping")]
    failed = [name for name, (value, _) in models.items() if value == "failed"]
    sample["model_names"] = loaded
    if failed:
        sample["fault"] = f"the router could not load {failed[0]}; its journal says why"
    remembered = state.setdefault("models", {})
    for name in [name for name in remembered if name not in loaded]:
        del remembered[name]
    parts = []
    for name in loaded[:_MOST_MODELS]:
        value, may_sleep = models[name]
        if value == "sleeping":
            continue
        own = remembered.setdefault(name, {})
        query = f"?model={quote(name, safe='')}&autoload=false"
        part = yield from one_model(own, key, query, may_sleep, None)
        if part.get("health") == "ok":
            parts.append(part)
        elif part.get("health") in ("unreachable", "unauthorized"):
            return {**sample, **part}
        else:
            parts.append({})
    if len(loaded) > _MOST_MODELS:
        parts.append({})
    sample.update(together.join(parts) if parts else {"slots": {}, "slots_total": 0})
    sample["identity"] = ",".join([sample.get("identity", ""), *sorted(loaded)])
    return sample


def _models(data: Any) -> Dict[str, Any]:
    """Each model's status word and whether it may fall asleep."""
    models: Dict[str, Any] = {}
    for item in listing(mapping(data).get("data")):
        name = text(mapping(item).get("id"))
        status = mapping(mapping(item).get("status"))
        if name is not None:
            sleepy = "--sleep-idle-seconds" in listing(status.get("args"))
            value = "failed" if status.get("failed") is True else status.get("value")
            models[name] = (value, sleepy)
    return models

"""What only one kind of engine has to say: Ollama's models in memory, vLLM's cache and engines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from llamatop.app.render.bars import BUSY, IDLE
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit
from llamatop.model.cluster import WorkerView
from llamatop.model.figures import UNKNOWN, bytes_short, count, duration, percent
from llamatop.model.observed import EngineLoad, LoadedModel

Fact = tuple[str, str, str]
_MOST_NAMES = 6


def first(worker: WorkerView) -> list[Fact]:
    """What an operator asks of this engine first: (label, value, role), above the unit."""
    if worker.sample.engine == "ollama":
        return _loaded(worker)
    if worker.sample.engine == "vllm":
        return _serving(worker)
    return []


def rest(worker: WorkerView) -> list[Fact]:
    """What it has to say beside, below the unit."""
    sample = worker.sample
    listed: list[Fact] = []
    if sample.engine == "ollama" and sample.present is not None:
        listed.append(("on disk", _names(list(sample.present)) or "no models", "dim"))
    if sample.engine == "vllm" and sample.preemptions_total:
        recent = sample.preemptions_recent or 0
        words = f"{recent} in the last minute, {count(sample.preemptions_total)} in all"
        listed.append(("preempted", words, "queue.waiting" if recent else "dim"))
    if sample.metrics is False:
        listed.append(("metrics", _METRICS[sample.engine or "llama-server"], "dim"))
    return listed


_METRICS = {
    "llama-server": "off; start it with --metrics for exact rates",
    "ollama": "off; Environment=LLAMA_ARG_ENDPOINT_METRICS=1 in its unit for exact rates",
    "vllm": "off; start it without --disable-log-stats for rates and its queue",
}


def _loaded(worker: WorkerView) -> list[Fact]:
    sample = worker.sample
    if not sample.loaded:
        nothing = "nothing; the next request loads its model"
        return [("loaded", UNKNOWN if sample.loaded is None else nothing, "dim")]
    models = sorted(sample.loaded, key=lambda model: (-(model.size_bytes or 0), model.name))
    listed: list[Fact] = []
    for model in models:
        unmeant = bool(worker.spilled_percent) and bool(model.cpu_bytes)
        role = "event.warning" if unmeant and model.gpu_layers != "0" else "text"
        listed.append(("" if listed else "loaded", f"{model.name}  {where(model)}", role))
        listed.append(("", "  " + ", ".join(_about(worker, model)), "dim"))
    return listed


def where(model: LoadedModel) -> str:
    """Its memory, and how much of it the CPU computes: what `ollama ps` calls PROCESSOR."""
    size, cpu = model.size_bytes, model.cpu_bytes
    if not size or cpu is None:
        return bytes_short(size)
    if cpu == 0:
        return f"{bytes_short(size)} on the cards"
    if not model.gpu_bytes:
        return f"{bytes_short(size)}, all of it on the CPU"
    return f"{bytes_short(size)}, {100 * cpu / size:.0f} % of it ({bytes_short(cpu)}) on the CPU"


def _about(worker: WorkerView, model: LoadedModel) -> list[str]:
    words = []
    if model.loading:
        words.append("loading")
    if model.slots:
        busy = {slot.id for slot in worker.sample.slots or () if slot.busy}
        words.append(f"{len(busy & set(model.slots))}/{len(model.slots)} slots busy")
    words += _expiry(worker, model)
    if model.context_tokens is not None:
        words.append(f"{count(model.context_tokens)} context")
    kind = " ".join(filter(None, [model.parameters, model.quantization]))
    return [*words, kind] if kind else words


def _expiry(worker: WorkerView, model: LoadedModel) -> list[str]:
    if model.forever:
        return ["stays loaded"]
    left = worker.expires_in_seconds(model)
    if left is None:
        return []
    return [f"unloads in {duration(left)}" if left > 0 else "unloads now"]


def _serving(worker: WorkerView) -> list[Fact]:
    sample = worker.sample
    waiting = sample.requests_deferred
    listed: list[Fact] = [
        (
            "requests",
            f"{count(sample.requests_processing)} running, {count(waiting)} waiting",
            "queue.waiting" if waiting else "text",
        ),
        ("KV cache", f"{percent(sample.kv_cache_percent)} full", "text"),
    ]
    if sample.first_token_seconds is not None:
        words = f"{sample.first_token_seconds:.2f} s to the first token, mean of the last 10 s"
        listed.append(("TTFT", words, "text"))
    return listed


def adapters(worker: WorkerView) -> list[Fact]:
    """The LoRA adapters that it serves under names of their own, those that run now first."""
    sample = worker.sample
    if not sample.adapters:
        return []
    busy = set(sample.adapters_busy or ())
    names = sorted(sample.adapters, key=lambda name: (name not in busy, name))
    told = [f"{name} (running)" if name in busy else name for name in names]
    return [("LoRA", _names(told), "text")]


def model_words(worker: WorkerView) -> str:
    """The model for one cell: the largest where several are loaded, and how many more."""
    sample = worker.sample
    if sample.engine == "ollama" and sample.loaded == ():
        return "none loaded"
    name = (sample.model or UNKNOWN).removesuffix(".gguf")
    more = len(sample.loaded or ()) - 1
    return f"{name} +{more}" if more > 0 else name


def engine_lines(engines: Sequence[EngineLoad], label: int, palette: Palette) -> list[Text]:
    """One line a data-parallel engine: what runs there, what waits, how full its cache is."""
    lines = []
    for engine in engines:
        text = Text(" ", no_wrap=True)
        text.append(fit(f"engine {engine.engine}", label), palette["faint"])
        role = "slot.busy" if engine.running else "slot.idle"
        text.append(f"{BUSY if engine.running else IDLE} ", palette[role])
        text.append(f"{count(engine.running)} running", palette["text"])
        text.append(", ", palette["dim"])
        waiting = "queue.waiting" if engine.waiting else "dim"
        text.append(f"{count(engine.waiting)} waiting", palette[waiting])
        text.append(f", KV cache {percent(engine.kv_cache_percent)} full", palette["dim"])
        lines.append(text)
    return lines


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

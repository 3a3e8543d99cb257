"""What a llama-server says about itself: its answers, as a recent build words them."""

from __future__ import annotations

from typing import Any

from .engine import Request, SimulatedEngine, Slot
from .shape import WorkerShape

BUILD = "b9125-dded58b45"

SAMPLING: dict[str, Any] = {
    "seed": 4294967295, "temperature": 0.800000011920929, "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0, "top_k": 40, "top_p": 0.949999988079071,
    "min_p": 0.05000000074505806, "top_n_sigma": -1.0, "xtc_probability": 0.0,
    "xtc_threshold": 0.10000000149011612, "typical_p": 1.0, "repeat_last_n": 64,
    "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
    "mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.10000000149011612, "max_tokens": -1,
    "n_predict": -1, "n_keep": 0, "n_discard": 0, "ignore_eos": False, "stream": True,
    "n_probs": 0, "min_keep": 0, "chat_format": "Content-only", "reasoning_format": "none",
    "reasoning_in_content": False, "generation_prompt": "",
    "samplers": [
        "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature",
    ],
    "speculative.types": "none", "timings_per_token": False, "post_sampling_probs": False,
    "backend_sampling": False, "lora": [],
}  # fmt: skip


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "code": status}}


def slot(state: Slot, context: int, brief: bool = False) -> dict[str, Any]:
    """One element of /slots; a slot that was never used shows four fields only.

    A `brief` one is without the sampling parameters.
    """
    shown: dict[str, Any] = {
        "id": state.id,
        "n_ctx": context,
        "speculative": False,
        "is_processing": state.request is not None,
    }
    request = state.request or state.last
    if request is None:
        return shown
    running = state.request is not None
    prompt_over = request.evaluated >= request.prompt
    return shown | {
        "id_task": request.task,
        "n_prompt_tokens": request.prompt + request.generated,
        "n_prompt_tokens_processed": request.prompt - request.cached if prompt_over else 0,
        "n_prompt_tokens_cache": request.cached if running else 0,
        "params": {} if brief else _parameters(request),
        "next_token": [
            {
                "has_next_token": running,
                "has_new_line": False,
                "n_remain": request.generate - request.generated if running else -1,
                "n_decoded": request.generated if running else 0,
            }
        ],
    }


def _parameters(request: Request) -> dict[str, Any]:
    return SAMPLING | {"max_tokens": request.generate, "n_predict": request.generate}


def metrics(engine: SimulatedEngine) -> str:
    """The body of /metrics; reading it resets the two averaged rates, as the real one does."""
    totals, rates = engine.totals, engine.rates

    def rate(tokens: int, seconds: float) -> float:
        return tokens / seconds if seconds else 0.0

    rows = [
        ("prompt_tokens_total", "Number of prompt tokens processed.", "counter",
         totals.prompt_tokens),
        ("prompt_seconds_total", "Prompt process time", "counter", totals.prompt_seconds),
        ("prompt_tokens_cached_total", "Number of prompt tokens taken from the cache.", "counter",
         totals.cached_tokens),
        ("tokens_predicted_total", "Number of generation tokens processed.", "counter",
         totals.generated_tokens),
        ("tokens_predicted_seconds_total", "Predict process time", "counter",
         totals.generation_seconds),
        ("n_decode_total", "Total number of llama_decode() calls", "counter", totals.decodes),
        ("n_tokens_max", "Largest observed n_tokens.", "counter", engine.slot_context),
        ("prompt_tokens_seconds", "Average prompt throughput in tokens/s.", "gauge",
         rate(rates.prompt_tokens, rates.prompt_seconds)),
        ("predicted_tokens_seconds", "Average generation throughput in tokens/s.", "gauge",
         rate(rates.generated_tokens, rates.generation_seconds)),
        ("requests_processing", "Number of requests processing.", "gauge", engine.busy),
        ("requests_deferred", "Number of requests deferred.", "gauge", len(engine.queue)),
        ("n_busy_slots_per_decode", "Average number of busy slots per llama_decode() call", "gauge",
         rate(totals.busy_slots, totals.decodes)),
    ]  # fmt: skip
    rates.prompt_tokens = rates.generated_tokens = 0
    rates.prompt_seconds = rates.generation_seconds = 0.0
    return "".join(
        f"# HELP llamacpp:{name} {about}\n# TYPE llamacpp:{name} {kind}\n"
        f"llamacpp:{name} {value:g}\n"
        for name, about, kind, value in rows
    )


def props(worker: WorkerShape, slot_context: int, metrics: bool) -> dict[str, Any]:
    """The body of /props."""
    return {
        "default_generation_settings": {"params": SAMPLING, "n_ctx": slot_context},
        "total_slots": worker.parallel,
        "model_alias": worker.model.name,
        "model_ftype": "Q4_K - Medium",
        "model_path": worker.model.path,
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": metrics,
        "ui": True,
        "ui_settings": {},
        "chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
        "chat_template_caps": {"supports_system_role": True, "supports_tool_calls": False},
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "build_info": BUILD,
        "is_sleeping": False,
        "cors_proxy_enabled": False,
    }


def models(worker: WorkerShape, slot_context: int, created: int) -> dict[str, Any]:
    """The body of /v1/models."""
    model = worker.model
    return {
        "object": "list",
        "data": [
            {
                "id": model.name,
                "aliases": [model.name],
                "tags": [],
                "object": "model",
                "created": created,
                "owned_by": "llamacpp",
                "meta": {
                    "vocab_type": 2,
                    "n_vocab": 152064,
                    "n_ctx": slot_context,
                    "n_ctx_train": model.trained_context,
                    "n_embd": model.embedding,
                    "n_params": model.parameters,
                    "size": model.size_bytes,
                    "ftype": "Q4_K - Medium",
                },
            }
        ],
    }


def timings(request: Request) -> dict[str, Any]:
    """The timings that end a completion."""
    prompt = request.prompt - request.cached
    prompt_ms = request.prompt_seconds * 1000
    answer_ms = request.generation_seconds * 1000
    return {
        "cache_n": request.cached,
        "prompt_n": prompt,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": prompt_ms / max(prompt, 1),
        "prompt_per_second": prompt / prompt_ms * 1000,
        "predicted_n": request.generated,
        "predicted_ms": round(answer_ms, 3),
        "predicted_per_token_ms": answer_ms / max(request.generated, 1),
        "predicted_per_second": request.generated / answer_ms * 1000,
    }


def log_of(request: Request) -> list[str]:
    """What the log says when a request ends, without the time in front."""
    place = f"id {request.slot:2d} | task {request.task} | "
    prompt, answer = request.prompt - request.cached, request.generated
    lines = []
    for label, seconds, tokens in (
        ("prompt eval time", request.prompt_seconds, prompt),
        ("       eval time", request.generation_seconds, answer),
    ):
        lines.append(
            f"slot print_timing: {place}{label} = {seconds * 1000:10.2f} ms / {tokens:5d} tokens "
            f"({seconds * 1000 / max(tokens, 1):8.2f} ms per token, "
            f"{tokens / seconds:8.2f} tokens per second)"
        )
    whole = request.prompt_seconds + request.generation_seconds
    lines.append(
        f"slot print_timing: {place}      total time = {whole * 1000:10.2f} ms / "
        f"{prompt + answer:5d} tokens"
    )
    lines.append(
        f"slot      release: {place}stop processing: n_tokens = "
        f"{request.prompt + answer - 1}, truncated = 0"
    )
    return lines

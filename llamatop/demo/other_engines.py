"""Simulated Ollama and vLLM: the same engine behind other endpoints."""

from __future__ import annotations

import time

from .engine import SimulatedEngine
from .shape import WorkerShape
from .web import Exchange
from .worker import Worker

OLLAMA_VERSION = "0.12.6"
VLLM_VERSION = "0.11.0"


def _name(shape: WorkerShape) -> str:
    return "qwen2.5:" + ("32b" if shape.split else "7b")


class Ollama(Worker):
    """`ollama serve`: no slots, no queue, no metrics."""

    program = "ollama"

    def command(self) -> tuple[list[str], list[str]]:
        """Its command line and environment."""
        address = f"{self.machine.address}:{self.shape.port}"
        return ["/usr/local/bin/ollama", "serve"], [f"OLLAMA_HOST={address}"]

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, as Ollama does."""
        shape, model = self.shape, self.shape.model
        details = {"format": "gguf", "family": "qwen2", "quantization_level": "Q4_K_M"}
        entry = {
            "name": _name(shape),
            "model": _name(shape),
            "size": model.size_bytes,
            "digest": "845dbda0ea48ed749caafd9e6037047aa19acfcfd82e704d7ca97d631a0b697e",
            "details": details,
        }
        if exchange.path == "/":
            await exchange.answer(200, "Ollama is running", "text/plain; charset=utf-8")
        elif exchange.path == "/api/version":
            await exchange.json(200, {"version": OLLAMA_VERSION})
        elif exchange.path == "/api/tags":
            await exchange.json(200, {"models": [entry]})
        elif exchange.path == "/api/ps":
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
            loaded = entry | {"expires_at": expires, "size_vram": model.size_bytes}
            loaded["context_length"] = shape.context_tokens // shape.parallel
            await exchange.json(200, {"models": [loaded] if self.ready else []})
        else:
            await exchange.answer(404, "404 page not found", "text/plain")


class Vllm(Worker):
    """`vllm serve`: labelled metrics, counters that advance live."""

    program = "vllm"

    def command(self) -> tuple[list[str], list[str]]:
        """Its command line and environment."""
        shape = self.shape
        argv = ["/opt/vllm/bin/vllm", "serve", shape.model.name, "--host", self.machine.address]
        argv += ["--port", str(shape.port), "--max-num-seqs", str(shape.parallel)]
        if shape.split:
            argv += ["--tensor-parallel-size", str(len(shape.cards))]
        return argv, []

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, as vLLM does."""
        engine, path = self.engine, exchange.path
        if engine is None:
            exchange.cut()
        elif path == "/health":
            await exchange.answer(200, "")
        elif path == "/version":
            await exchange.json(200, {"version": VLLM_VERSION})
        elif path == "/v1/models":
            model = {
                "id": self.shape.model.name,
                "object": "model",
                "created": int(time.time()),
                "owned_by": "vllm",
                "max_model_len": engine.slot_context,
            }
            await exchange.json(200, {"object": "list", "data": [model]})
        elif path == "/metrics":
            await exchange.answer(200, self._metrics(engine), "text/plain; version=0.0.4")
        else:
            await exchange.json(404, {"detail": "Not Found"})

    def _metrics(self, engine: SimulatedEngine) -> str:
        open_now = [slot.request for slot in engine.slots if slot.request is not None]
        held = sum(request.prompt + request.generated for request in open_now)
        live = engine.totals.generated_tokens + sum(request.generated for request in open_now)
        rows = [
            ("num_requests_running", "gauge", float(engine.busy)),
            ("num_requests_waiting", "gauge", float(len(engine.queue))),
            ("kv_cache_usage_perc", "gauge", held / self.shape.context_tokens),
            ("prompt_tokens_total", "counter", float(engine.totals.prompt_tokens)),
            ("generation_tokens_total", "counter", float(live)),
            ("num_preemptions_total", "counter", 0.0),
        ]
        labels = f'{{engine="0",model_name="{self.shape.model.name}"}}'
        return "".join(
            f"# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {value}\n"
            for name, kind, value in rows
        )


KINDS: dict[str, type[Worker]] = {"llama-server": Worker, "ollama": Ollama, "vllm": Vllm}

"""Simulated Ollama and vLLM: the same engine behind other endpoints."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import PurePosixPath

from msgspec.structs import replace

from llamatop.engines.ollama import shortened

from . import answers
from .engine import Happening, Request, SimulatedEngine
from .shape import LARGE, SMALL, Model
from .tasks import Task
from .unit import Unit
from .web import Exchange, WebServer
from .worker import Worker

OLLAMA_VERSION = "0.31.2"
VLLM_VERSION = "0.32.0"
KEEP_ALIVE_SECONDS = 300.0
# What Ollama leaves free on a card, and how much slower than a card a CPU is.
SPARED_BYTES = 3 * 2**29
CPU_SLOWER = 9.0
THREADS = 8
CHILD_BYTES = 600 * 2**20
BLOBS = PurePosixPath("/usr/share/ollama/.ollama/models/blobs")
# By name: what Ollama's library calls it, and the digest of its manifest.
LIBRARY = {
    SMALL.name: ("qwen2.5:7b", "845dbda0ea48ed749caafd9e6037047aa19acfcfd82e704d7ca97d631a0b697e"),
    LARGE.name: ("qwen2.5:32b", "9f13ba1299afea09d9a956fc6a85becc99115a6d596fae201a5487a03bdc4368"),
}
EMBEDDER = {
    "name": "nomic-embed-text:latest",
    "model": "nomic-embed-text:latest",
    "size": 274_302_450,
    "digest": "0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f",
    "details": {
        "format": "gguf",
        "family": "nomic-bert",
        "parameter_size": "137M",
        "quantization_level": "F16",
    },
}


class Ollama(Worker):
    """`ollama serve`: neither slots nor metrics; its model runs in a llama-server of its own."""

    program = "ollama"
    child: Task | None = None
    child_web: WebServer | None = None
    used_at = 0.0

    def command(self) -> tuple[list[str], list[str]]:
        """Its command line and environment."""
        shape = self.shape
        environment = [f"OLLAMA_HOST={self.machine.address}:{shape.port}"]
        environment += [f"OLLAMA_NUM_PARALLEL={shape.parallel}"]
        return ["/usr/local/bin/ollama", "serve"], environment

    async def launch(self, unit: Unit) -> int:
        """Start it, and the llama-server that it spawns for its model."""
        pid = await super().launch(unit)
        # Any free port of the loopback, as Ollama asks the kernel for one.
        self.child_web = WebServer("127.0.0.1", 0, self._handle_child)
        await self.child_web.start()
        self._spawn(pid, unit, self.child_web.bound_port)
        return pid

    def _spawn(self, parent: int, unit: Unit, port: int) -> None:
        shape, model = self.shape, self.shape.model
        argv = ["/usr/local/lib/ollama/llama-server", "--model", self._blob(model)]
        argv += ["--port", str(port), "--host", "127.0.0.1"]
        argv += ["--no-webui", "--offline", "-c", str(shape.context_tokens)]
        argv += ["-np", str(shape.parallel), "--flash-attn", "auto"]
        environ = dict(self.task.environ) if self.task is not None else {}
        number = self.machine.table.new_pid()
        self.child = self.machine.table.add(
            Task(number, parent, "llama-server", tuple(argv), environ, unit.name, time.time())
        )

    @staticmethod
    def _blob(model: Model) -> str:
        digest = LIBRARY.get(model.name, ("", "0" * 64))[1][::-1]
        return str(BLOBS / f"sha256-{digest}")

    async def _load(self, pid: int) -> None:
        """No card is no reason to end: the CPU does the work then."""
        self.crashes_after = None
        await super()._load(pid)

    @property
    def on_cards_bytes(self) -> int:
        """As much as there is room for; the CPU computes the rest, and what a lost card held."""
        cards = [self.machine.cards[number] for number in self.shape.cards]
        seen = [card for card in cards if not card.lost]
        room = sum(card.kind.memory_bytes - SPARED_BYTES for card in seen)
        return min(self.needed_bytes * len(seen) // max(1, len(cards)), room)

    @property
    def pace(self) -> float:
        """Layers on the CPU take their time, and the cards wait for them."""
        on_cards = self.on_cards_bytes / self.needed_bytes
        return 1.0 / (on_cards + CPU_SLOWER * (1.0 - on_cards))

    def load_on(self, place: int) -> float:
        """The cards compute their layers, and wait for the others."""
        return super().load_on(place) * self.pace * self.on_cards_bytes / self.needed_bytes

    def _occupy(self, pid: int, share: float) -> None:
        """Cards and memory are used by the child."""
        if self.child is not None:
            super()._occupy(self.child.pid, share)
            spilled = self.needed_bytes - self.on_cards_bytes
            self.child.resident_bytes = CHILD_BYTES + int(spilled * share)

    def _gone(self) -> None:
        child, self.child = self.child, None
        web, self.child_web = self.child_web, None
        if web is not None:
            web.stop()
        if child is not None:
            for card in self.machine.cards:
                card.processes.pop(child.pid, None)
            self.machine.table.remove(child.pid)
        super()._gone()

    def advance(self, now: float) -> None:
        """The child does the work; every request keeps the model for five more minutes."""
        super().advance(now)
        if self.engine is not None and self.engine.busy:
            self.used_at = time.time()
        if self.task is not None and self.child is not None:
            on_cpu = 1.0 - self.pace * self.on_cards_bytes / self.needed_bytes
            busy = self.task.cores * (1.0 + (THREADS - 1) * on_cpu)
            self.child.cores, self.task.cores = busy, 0.01

    async def _handle_child(self, exchange: Exchange) -> None:
        """Answer as the llama-server that Ollama has spawned, which has no --metrics."""
        if self.hung and exchange.path != "/health":
            await super().handle(exchange)
        elif self.engine is None:
            await exchange.json(503, answers.error(503, "unavailable_error", "Loading model"))
        elif exchange.path == "/health":
            await exchange.json(200, {"status": "ok"})
        else:
            model = replace(self.shape.model, name=self._blob(self.shape.model))
            shape = replace(self.shape, model=model, metrics=False)
            await self.route(exchange, self.engine, shape)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, as Ollama does."""
        exchange.server = ""
        if exchange.path == "/":
            await exchange.answer(200, "Ollama is running", "text/plain; charset=utf-8")
        elif exchange.path == "/api/version":
            await exchange.json(200, {"version": OLLAMA_VERSION})
        elif exchange.path == "/api/tags":
            await exchange.json(200, {"models": [*self._pulled(), EMBEDDER]})
        elif exchange.path == "/api/ps":
            body = json.dumps({"models": [self._loaded()] if self.child else []})
            date = ("Date", formatdate(usegmt=True))
            await exchange.answer(200, body, headers=(date,))
        else:
            await exchange.answer(404, "404 page not found", "text/plain")

    def _pulled(self) -> list[dict[str, object]]:
        """What was pulled here: the small model everywhere, the large one where it runs."""
        models = [SMALL, LARGE] if self.shape.model.name == LARGE.name else [SMALL]
        return [_entry(model) for model in models]

    def _loaded(self) -> dict[str, object]:
        shape = self.shape
        expires = max(self.used_at, time.time() - KEEP_ALIVE_SECONDS + 1) + KEEP_ALIVE_SECONDS
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(expires))
        return {
            **_entry(shape.model),
            "size": self.needed_bytes,
            "size_vram": self.on_cards_bytes,
            "expires_at": f"{written}.{int(expires % 1 * 1e9):09d}Z",
            "context_length": shape.context_tokens // shape.parallel,
        }


def _entry(model: Model) -> dict[str, object]:
    name, digest = LIBRARY.get(model.name, (model.name, ""))
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen2",
        "families": ["qwen2"],
        "parameter_size": shortened(model.parameters),
        "quantization_level": "Q4_K_M",
    }
    return {
        "name": name,
        "model": name,
        "size": model.size_bytes,
        "digest": digest,
        "details": details,
    }


class Vllm(Worker):
    """`vllm serve`: labelled metrics, counters that advance live."""

    program = "vllm"
    first_tokens = 0
    first_token_seconds = 0.0

    def command(self) -> tuple[list[str], list[str]]:
        """Its command line and environment."""
        shape = self.shape
        argv = ["/opt/vllm/bin/vllm", "serve", shape.model.name, "--host", self.machine.address]
        argv += ["--port", str(shape.port), "--max-num-seqs", str(shape.parallel)]
        if shape.split:
            argv += ["--tensor-parallel-size", str(len(shape.cards))]
        return argv, []

    async def launch(self, unit: Unit) -> int:
        """Start it; its port opens when the model is loaded."""
        pid = await super().launch(unit)
        self.web.stop()
        return pid

    def become_ready(self) -> None:
        """The model is loaded."""
        super().become_ready()
        self.machine.schedule(self._open())

    async def _open(self) -> None:
        if self.web.server is None:
            await self.web.start()
        if self.engine is None:  # it ended meanwhile
            self.web.stop()

    def _journal(self, request: Request, happening: Happening) -> None:
        """It says nothing of single requests."""

    def submit(self, request: Request) -> bool:
        """Give it a request, and note how long its first token takes."""
        told, sent = request.listener, self.engine.clock if self.engine is not None else 0.0

        def listen(subject: Request, happening: Happening) -> None:
            if happening == "prompt":
                self.first_tokens += 1
                self.first_token_seconds += max(0.0, subject.prompt_done - sent)
            if told is not None:
                told(subject, happening)

        request.listener = listen
        return super().submit(request)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, as vLLM does."""
        engine, path, exchange.server = self.engine, exchange.path, "uvicorn"
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
                "root": self.shape.model.name,
                "parent": None,
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
            ("time_to_first_token_seconds_sum", "histogram", self.first_token_seconds),
            ("time_to_first_token_seconds_count", "histogram", float(self.first_tokens)),
        ]
        labels = f'{{engine="0",model_name="{self.shape.model.name}"}}'
        return "".join(
            f"# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {value}\n"
            for name, kind, value in rows
        )


KINDS: dict[str, type[Worker]] = {"llama-server": Worker, "ollama": Ollama, "vllm": Vllm}

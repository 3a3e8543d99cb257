"""A simulated llama-server process: its life, the cards it uses and its HTTP endpoints."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from . import answers
from .completion import complete
from .engine import BATCH, Happening, Request, SimulatedEngine
from .shape import WorkerShape
from .tasks import Task
from .unit import Unit
from .web import Exchange, WebServer

if TYPE_CHECKING:
    from .machine import Machine

PING_SECONDS = 2.0


class Worker:
    """One worker process behind a unit."""

    program = "llama-server"

    def __init__(self, machine: Machine, shape: WorkerShape) -> None:
        self.machine = machine
        self.shape = shape
        self.web = WebServer(machine.address, shape.port, self.handle)
        self.engine: SimulatedEngine | None = None
        self.unit: Unit | None = None
        self.task: Task | None = None
        self.loading: asyncio.Task[None] | None = None
        self.loading_seconds: float | None = None
        self.crashes_after: float | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.metrics = shape.metrics
        self.stopping = False
        self.token = 0
        self.born = 0.0
        self.key = shape.key

    @property
    def hung(self) -> bool:
        """Whether its engine stands still and answers nothing but /health."""
        return not self.answers.is_set()

    @hung.setter
    def hung(self, hung: bool) -> None:
        if hung:
            self.answers.clear()
        else:
            self.answers.set()

    def command(self) -> tuple[list[str], list[str]]:
        """Its command line, and what its unit sets in the environment beside the cards."""
        shape, model = self.shape, self.shape.model
        argv = ["/usr/local/bin/llama-server", "--model", model.path, "--alias", model.name]
        argv += ["--host", self.machine.address, "--port", str(shape.port)]
        argv += ["--n-gpu-layers", "999", "--ctx-size", str(shape.context_tokens)]
        argv += ["--parallel", str(shape.parallel), "--flash-attn", "on"]
        argv += ["--batch-size", str(BATCH), "--sse-ping-interval", f"{PING_SECONDS:g}"]
        if shape.split:
            argv += ["--split-mode", "layer", "--tensor-split", ",".join("1" for _ in shape.cards)]
        if self.metrics:
            argv += ["--metrics"]
        return argv, [f"LLAMA_API_KEY={shape.key}"] if shape.key is not None else []

    # --- the process -----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self.engine is not None and not self.stopping

    async def launch(self, unit: Unit) -> int:
        """Start the process; the model loads for some seconds after that."""
        self.unit = unit
        self.stopping = False
        pid = self.machine.table.new_pid()
        environ = dict(setting.split("=", 1) for setting in unit.environment)
        environ |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/var/lib/llama"}
        environ["INVOCATION_ID"] = unit.invocation
        self.task = self.machine.table.add(
            Task(pid, 1, self.program, unit.argv, environ, unit.name, time.time(), 900 * 2**20)
        )
        self.born = time.monotonic()
        self.token = int(time.monotonic() * 1e6)
        self.log(f"srv    load_model: loading model '{self.shape.model.path}'")
        await self.web.start()
        self.loading = asyncio.get_running_loop().create_task(self._load(pid))
        return pid

    async def _load(self, pid: int) -> None:
        seconds = self.loading_seconds
        if seconds is None:
            seconds = self.machine.random.uniform(2.0, 3.0) * (1.3 if self.shape.split else 1.0)
        if self.crashes_after is not None:
            await asyncio.sleep(self.crashes_after)
            self.log("ggml_cuda_init: failed to initialize CUDA: out of memory")
            self.log("srv    load_model: failed to load model")
            self._gone()
            if self.unit is not None:
                self.unit.crashed(1)
            return
        steps = max(1, int(seconds * 4))
        for step in range(steps):
            self._occupy(pid, (step + 1) / steps)
            await asyncio.sleep(seconds / steps)
        self.become_ready()

    def become_ready(self) -> None:
        """The model is loaded."""
        shape = self.shape
        if self.loading is not None:
            current = asyncio.current_task()
            if self.loading is not current:
                self.loading.cancel()
            self.loading = None
        if self.task is not None:
            self._occupy(self.task.pid, 1.0)
        context = shape.context_tokens // shape.parallel
        self.engine = SimulatedEngine(
            shape.model, shape.parallel, context, self.machine.random, len(shape.cards)
        )
        self.engine.clock = time.monotonic()
        self.engine.hung = self.hung
        self.log(
            f"srv    load_model: initializing, n_slots = {shape.parallel}, "
            f"n_ctx_slot = {context}, kv_unified = 'false'"
        )
        self.log("srv  llama_server: model loaded")
        self.log(f"srv  llama_server: listening on http://{self.web.host}:{shape.port}")

    @property
    def needed_bytes(self) -> int:
        """What its model and context take."""
        model = self.shape.model
        return model.size_bytes + self.shape.context_tokens * model.cache_bytes_per_token

    @property
    def on_cards_bytes(self) -> int:
        """The part of that which lies on its cards."""
        return self.needed_bytes

    def _occupy(self, pid: int, share: float) -> None:
        """Take memory on the cards; the first of several holds a little more."""
        shape = self.shape
        whole = self.on_cards_bytes
        for place, number in enumerate(shape.cards):
            part = whole / len(shape.cards) * (1.03 if place == 0 else 0.97) + 420 * 2**20
            self.machine.cards[number].processes[pid] = int(part * share)

    async def terminate(self) -> None:
        """SIGTERM: generation stops at once; streams hang until the next ping, then are cut."""
        self.log("srv    operator(): operator(): cleaning up before exit...")
        self.stopping = True
        open_requests = self.engine.open_requests if self.engine is not None else 0
        self.engine, engine = None, self.engine
        await asyncio.sleep(PING_SECONDS if open_requests else 0.01)
        if engine is not None:
            engine.cut_all()
        self._gone()

    def require_key(self, key: str) -> None:
        """Answer only who brings this key."""
        self.key = key

    def kill(self) -> None:
        """SIGKILL."""
        self._gone()

    async def reload(self) -> bool:
        """llama-server has no reload."""
        return False

    def _gone(self) -> None:
        if self.loading is not None and self.loading is not asyncio.current_task():
            self.loading.cancel()
        self.loading = None
        engine, self.engine = self.engine, None
        self.web.stop()
        if self.task is not None:
            for card in self.machine.cards:
                card.processes.pop(self.task.pid, None)
            self.machine.table.remove(self.task.pid)
            self.task = None
        if engine is not None:
            engine.cut_all()

    def log(self, text: str) -> None:
        """A line in the unit's journal, as llama-server prefixes it."""
        if self.unit is None or self.task is None:
            return
        since = time.monotonic() - self.born
        stamp = f"{int(since // 60)}.{since % 60:06.3f}.{int(since * 1e6) % 1000:03d}"
        self.machine.journal.write(self.unit.name, self.program, self.task.pid, f"{stamp} I {text}")

    # --- the engine ------------------------------------------------------------------------

    def submit(self, request: Request) -> bool:
        """Give it a request; false where it takes none."""
        if self.engine is None or self.stopping:
            return False
        told = request.listener

        def listen(subject: Request, happening: Happening) -> None:
            self._journal(subject, happening)
            if told is not None:
                told(subject, happening)

        request.listener = listen
        self.engine.submit(request)
        return True

    def _journal(self, request: Request, happening: Happening) -> None:
        if happening == "launch":
            place = f"id {request.slot:2d} | task {request.task} | "
            self.log(f"slot launch_slot_: {place}processing task, is_child = 0")
        elif happening in ("end", "cut"):
            for line in answers.log_of(request):
                self.log(line)

    def advance(self, now: float) -> None:
        """Let the engine compute until `now` and load the cards accordingly."""
        engine = self.engine
        if engine is not None:
            cards = [self.machine.cards[number] for number in self.shape.cards]
            engine.hung = self.hung
            engine.speed = min((card.speed for card in cards), default=1.0) * self.pace
            engine.advance(now)
            if self.task is not None:
                self.task.cores = 1.02 if engine.busy else 0.01
                if engine.hung and engine.busy:
                    self.task.cores = 1.0

    @property
    def pace(self) -> float:
        """How fast it computes beside what its cards alone could."""
        return 1.0

    def load_on(self, place: int) -> float:
        """The share of time that it keeps the card at this place of its span busy."""
        if self.engine is None or not self.engine.busy or self.hung:
            return 0.0
        if not self.shape.split:
            return 0.965
        # Layers run one card after the other: together the cards do the work of one.
        return 0.97 / len(self.shape.cards) + (0.025 if place == 0 else 0.005)

    # --- HTTP ------------------------------------------------------------------------------

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, as llama-server does."""
        health = exchange.path in ("/health", "/v1/health")
        if not health:
            await self.answers.wait()
        if self.key is not None and not health and not self._allowed(exchange):
            await exchange.json(401, answers.error(401, "authentication_error", "Invalid API Key"))
        elif self.engine is None:
            await exchange.json(503, answers.error(503, "unavailable_error", "Loading model"))
        elif health:
            await exchange.json(200, {"status": "ok"})
        else:
            await self.route(exchange, self.engine, self.shape)

    def _allowed(self, exchange: Exchange) -> bool:
        bearer = exchange.headers.get("authorization", "").removeprefix("Bearer ")
        return self.key in (bearer, exchange.headers.get("x-api-key"))

    async def route(self, exchange: Exchange, engine: SimulatedEngine, shape: WorkerShape) -> None:
        """Answer what a llama-server of this shape answers once its model is loaded."""
        path = exchange.path
        if path == "/slots":
            if exchange.query.get("fail_on_no_slot") and engine.busy == shape.parallel:
                body = answers.error(503, "unavailable_error", "no slot available")
                await exchange.json(503, body)
                return
            context, brief = engine.slot_context, exchange.brief
            states = [answers.slot(state, context, brief) for state in engine.slots]
            await exchange.json(200, states)
        elif path == "/metrics" and self.metrics:
            await exchange.answer(
                200,
                answers.metrics(engine),
                "text/plain; version=0.0.4",
                (("Process-Start-Time-Unix", str(self.token)),),
            )
        elif path == "/metrics":
            message = "This server does not support metrics endpoint. Start it with `--metrics`"
            await exchange.json(501, answers.error(501, "not_supported_error", message))
        elif path == "/props":
            await exchange.json(200, answers.props(shape, engine.slot_context, self.metrics))
        elif path in ("/v1/models", "/models"):
            await exchange.json(200, answers.models(shape, engine.slot_context, int(time.time())))
        elif path in ("/completion", "/completions", "/v1/completions") and exchange.body:
            await complete(self, exchange, chat=False)
        elif path in ("/v1/chat/completions", "/chat/completions") and exchange.body:
            await complete(self, exchange, chat=True)
        else:
            await exchange.json(404, answers.error(404, "not_found_error", "File Not Found"))

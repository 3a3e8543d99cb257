"""A simulated inference engine: slots that all advance one token a decode step, and a queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Literal

from msgspec import Struct, field

from .shape import Model

Happening = Literal["launch", "prompt", "token", "end", "cut"]
Listener = Callable[["Request", Happening], None]

BATCH = 256
# Tesla P40: 346 GB/s on paper, about six tenths of it in practice.
BYTES_PER_SECOND = 215e9
PROMPT_PARAMETERS_PER_SECOND = 9.0e12


class Request(Struct, eq=False):
    """One completion: token counts, and when (engine seconds) its prompt and its answer began.

    `generate` is the most tokens it may produce; `cached` prompt tokens need no computing. Only a
    `streamed` one tells its listener of every token.
    """

    prompt: int
    generate: int
    cached: int = 0
    listener: Listener | None = None
    streamed: bool = False
    task: int = -1
    slot: int = -1
    evaluated: int = 0
    generated: int = 0
    started: float = 0.0
    prompt_done: float = 0.0
    ended: float = 0.0
    over: bool = False

    def tell(self, happening: Happening) -> None:
        """Let the listener know."""
        if self.listener is not None:
            self.listener(self, happening)

    @property
    def prompt_seconds(self) -> float:
        """Time spent on the prompt."""
        return max(self.prompt_done - self.started, 1e-6)

    @property
    def generation_seconds(self) -> float:
        """Time spent on the answer."""
        return max(self.ended - self.prompt_done, 1e-6)


class Totals(Struct):
    """What /metrics counts; moves only when a prompt or a request finishes."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    cached_tokens: int = 0
    generated_tokens: int = 0
    generation_seconds: float = 0.0
    decodes: int = 0
    busy_slots: int = 0


class Rates(Struct):
    """The averaged gauges, reset by every scrape as the real ones are."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    generated_tokens: int = 0
    generation_seconds: float = 0.0


class Slot(Struct):
    """One slot; `last` keeps the finished request's figures that /slots goes on showing."""

    id: int
    request: Request | None = None
    last: Request | None = None


class SimulatedEngine(Struct):
    """The engine of one worker process; time is in seconds on the caller's clock.

    `hung` stops the physics as a stuck kernel does; `speed` is lowered by a hot card.
    """

    model: Model
    slot_count: int
    slot_context: int
    random: Random
    cards: int = 1
    speed: float = 1.0
    hung: bool = False
    slots: list[Slot] = field(default_factory=list)
    queue: deque[Request] = field(default_factory=deque)
    totals: Totals = field(default_factory=Totals)
    rates: Rates = field(default_factory=Rates)
    next_task: int = 0
    clock: float = 0.0
    step_ends: float | None = None
    steps: int = 1
    in_batch: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = [Slot(number) for number in range(self.slot_count)]

    @property
    def busy(self) -> int:
        """How many slots hold a request."""
        return sum([slot.request is not None for slot in self.slots])

    @property
    def open_requests(self) -> int:
        """Requests in slots and in the queue."""
        return self.busy + len(self.queue)

    def submit(self, request: Request) -> None:
        """Queue a request; it starts at once where a slot is free."""
        request.task = self.next_task
        self.next_task += 1
        self.queue.append(request)
        self._fill()

    def cancel(self, request: Request) -> None:
        """The client is gone: the slot is free again at once."""
        if request.over:
            return
        if request in self.queue:
            self.queue.remove(request)
            request.over = True
            return
        self._release(request, "cut")
        self._fill()

    def cut_all(self) -> None:
        """Every open request ends unanswered, as when the process dies."""
        for request in [*self.queue, *(slot.request for slot in self.slots)]:
            if request is not None and not request.over:
                request.ended = self.clock
                request.over = True
                request.tell("cut")
        self.queue.clear()
        for slot in self.slots:
            slot.request = None
        self.step_ends = None

    def advance(self, now: float) -> None:
        """Compute the steps that end before `now`."""
        if self.hung:
            self.clock = now
            return
        while True:
            if self.step_ends is None:
                if not self.busy:
                    self.clock = now
                    return
                seconds = self._begin_step()
                self.steps = self._alike(int((now - self.clock) / seconds))
                self.step_ends = self.clock + self.steps * seconds
            if self.step_ends > now:
                return
            self.clock = self.step_ends
            self.step_ends = None
            self._end_step()
            self._fill()

    def _fill(self) -> None:
        for slot in self.slots:
            if not self.queue:
                return
            if slot.request is None:
                request = self.queue.popleft()
                slot.request = request
                request.slot = slot.id
                request.started = self.clock
                request.evaluated = request.cached
                request.tell("launch")

    def _begin_step(self) -> float:
        """Choose what the next batch holds; gives its duration in seconds."""
        self.in_batch = {}
        room = BATCH
        generating = prompt = 0
        for slot in self.slots:
            request = slot.request
            if request is None:
                continue
            if request.evaluated < request.prompt:
                part = min(room, request.prompt - request.evaluated)
                if part > 0:
                    self.in_batch[slot.id] = part
                    room -= part
                    prompt += part
            else:
                generating += 1
        weights = self.model.size_bytes / BYTES_PER_SECOND
        seconds = prompt * self.model.parameters / PROMPT_PARAMETERS_PER_SECOND
        if generating or not prompt:
            seconds += weights * (1 + 0.13 * max(0, generating - 1))
        seconds *= 1 + 0.02 * (self.cards - 1)
        return seconds * self.random.uniform(0.97, 1.03) / self.speed

    @property
    def streams(self) -> bool:
        """Whether somebody waits for every single token."""
        return any(slot.request is not None and slot.request.streamed for slot in self.slots)

    def _alike(self, most: int) -> int:
        """How many steps from here on do the same and can be taken at once, up to `most`."""
        if most <= 1 or self.in_batch or self.streams:
            return 1
        for slot in self.slots:
            request = slot.request
            if request is not None:
                room = self.slot_context - request.prompt
                most = min(most, min(request.generate, room) - request.generated)
        return max(most, 1)

    def _end_step(self) -> None:
        self.totals.decodes += self.steps
        self.totals.busy_slots += self.busy * self.steps
        for slot in self.slots:
            request = slot.request
            if request is None:
                continue
            part = self.in_batch.get(slot.id, 0)
            if part:
                request.evaluated += part
                if request.evaluated < request.prompt:
                    continue
                request.prompt_done = self.clock
                self._count_prompt(request)
                request.tell("prompt")
            elif request.evaluated < request.prompt:
                continue
            request.generated += self.steps
            if request.streamed:
                request.tell("token")
            full = request.prompt + request.generated >= self.slot_context
            if not request.over and (request.generated >= request.generate or full):
                self._release(request, "end")

    def _count_prompt(self, request: Request) -> None:
        computed = request.prompt - request.cached
        self.totals.prompt_tokens += computed
        self.totals.cached_tokens += request.cached
        self.totals.prompt_seconds += request.prompt_seconds
        self.rates.prompt_tokens += computed
        self.rates.prompt_seconds += request.prompt_seconds

    def _release(self, request: Request, happening: Happening) -> None:
        request.ended = self.clock
        request.over = True
        slot = self.slots[request.slot]
        slot.last, slot.request = request, None
        if request.generated:
            self.totals.generated_tokens += request.generated
            self.totals.generation_seconds += request.generation_seconds
            self.rates.generated_tokens += request.generated
            self.rates.generation_seconds += request.generation_seconds
        request.tell(happening)

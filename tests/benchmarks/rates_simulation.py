"""A llama-server in virtual time: what its endpoints would say, and the truth beside it.

Faithful where it matters to rates: one loop that draws a task id for every decode step, tasks and
reads that draw one too, a deferred queue, the least recently used slot first, prompts in batches,
a counter that moves when a task ends and prints with six digits, slots that keep showing their
last task, and reads answered amid a step (builds since mid-2026) or at its end, when a slot may
still show the counts of the task before (builds until then).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec.structs import asdict

from llamatop.engines import glances
from llamatop.engines.prometheus import step as printed_step
from llamatop.model.observed import Glance, Slot, TokenCounters, WorkerSample
from tests.benchmarks.rates_accuracy import Read

BATCH = 2048
Ending = Literal["limit", "text", "unlimited", "mixed"]


@dataclass
class Load:
    """Who asks: `clients` that ask again at once, or strangers at `per_second`."""

    clients: int = 4
    per_second: float = 0.0
    shortest: int = 50
    longest: int = 400
    prompt_shortest: int = 10
    prompt_longest: int = 600
    ending: Ending = "limit"
    hang_up: float = 0.0
    turnaround: float = 0.004


@dataclass
class Machine:
    """How fast: seconds a decode step and a prompt token, and how reads are answered."""

    step_seconds: float = 0.02
    prompt_seconds: float = 0.0008
    slots: int = 4
    reads: Literal["amid", "after"] = "amid"
    counts_prompts: Literal["live", "first token"] = "first token"


@dataclass
class _Task:
    id: int
    prompt: int
    length: int
    limit: int | None
    client: int | None
    done: int = 0
    generated: int = 0


@dataclass
class _SlotState:
    task: _Task | None = None
    last_id: int | None = None
    context: int = 0
    processed: int = 0
    used: float = -1.0
    shown: int = 0
    shown_limit: int | None = None
    begun: bool = False


@dataclass
class Server:
    machine: Machine
    load: Load
    seed: int
    now: float = 0.0
    next_id: int = 0
    generated: int = 0
    prompted: int = 0
    counted: int = 0
    prompt_counted: int = 0
    queue: deque[_Task] = field(default_factory=deque)
    arrivals: list[tuple[float, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._asked: TokenCounters | None = None
        self._glances: list[Glance] = []
        self._state: dict[str, Any] = {}
        self.slots = [_SlotState() for _ in range(self.machine.slots)]
        if self.load.per_second:
            self.arrivals = [(self.random.expovariate(self.load.per_second), None)]
        else:
            self.arrivals = [(self.random.uniform(0, 0.5), n) for n in range(self.load.clients)]

    def reads(
        self, seconds: float, interval: float = 1.0, warm: float = 5.0, looks: bool = True
    ) -> Iterator[Read]:
        """Read each `interval` with a jitter of milliseconds, after `warm` seconds of work.

        With `looks` the slots are read between ticks too, when the probe would.
        """
        self._warm, self._interval, self._looks_too = warm, interval, looks
        self._ticks, self._due, self._looks = 0, warm, list[float]()
        while self.now < warm + seconds + 2 * interval:
            ends = self._begin_step()
            late = False
            while (at := self._next_question()) <= ends:
                self._arrive(at)
                self.next_id += 1
                late = self.machine.reads == "after"
                if late:
                    break
                self.now = at
                if (read := self._answer(at)) is not None:
                    yield read
            self._end_step(ends)
            if late:
                self._give_tasks()
                if (read := self._answer(self.now)) is not None:
                    yield read

    def _next_question(self) -> float:
        if self._asked is not None:
            return self._due + 0.003
        return min([self._due, *self._looks])

    def _answer(self, at: float) -> Read | None:
        """What the server says now: of its counters, of its slots amid a tick, or of all."""
        if self._asked is None and self._looks:
            self._looks.pop(0)
            self._glances.append(Glance(at, self._shown(at)))
            return None
        if self._asked is None:
            self._asked = self._counters()
            return None
        read = self._read(self._asked, at)
        self._asked, self._glances = None, []
        self._ticks += 1
        before = self._due
        self._due = self._warm + self._ticks * self._interval + self.random.uniform(0, 0.01)
        count = glances.wanted(self._state, self._interval)
        if self._looks_too:
            self._looks = [
                moment
                for number in range(count)
                if (moment := before + self._interval * (number + 1) / (count + 1)) > at
            ]
        return read

    def _arrive(self, until: float) -> None:
        while self.arrivals and min(self.arrivals)[0] <= until:
            first = min(self.arrivals)
            self.arrivals.remove(first)
            self.queue.append(self._task(first[1]))
            if self.load.per_second:
                gap = self.random.expovariate(self.load.per_second)
                self.arrivals.append((first[0] + gap, None))

    def _task(self, client: int | None) -> _Task:
        load, choose = self.load, self.random
        length = choose.randint(load.shortest, load.longest)
        ending = load.ending
        if ending == "mixed":
            ending = choose.choice(("limit", "limit", "text", "unlimited"))
        limit = {"limit": length, "text": 2048, "unlimited": None}[ending]
        if choose.random() < load.hang_up:
            length = choose.randint(1, length)
        prompt = choose.randint(load.prompt_shortest, load.prompt_longest)
        task = _Task(self.next_id, prompt, length, limit, client)
        self.next_id += 1
        return task

    def _give_tasks(self) -> None:
        self._arrive(self.now)
        while self.queue and any(slot.task is None for slot in self.slots):
            slot = min((s for s in self.slots if s.task is None), key=lambda s: s.used)
            slot.task = self.queue.popleft()
            slot.last_id, slot.begun = slot.task.id, False

    def _begin_step(self) -> float:
        self._give_tasks()
        for slot in self.slots:
            if slot.task is not None and not slot.begun:
                slot.begun, slot.context, slot.processed = True, 0, 0
                slot.shown, slot.shown_limit = 0, slot.task.limit
        busy = [slot for slot in self.slots if slot.task is not None]
        if not busy:
            return min([self.now + 0.05, *(at for at, _ in self.arrivals)])
        self.next_id += 1
        tokens = 0
        for slot in busy:
            assert slot.task is not None
            if slot.task.done >= slot.task.prompt:
                slot.context += 1
                tokens += 1
        self._batch: list[tuple[_SlotState, int]] = []
        room = BATCH - tokens
        for slot in busy:
            assert slot.task is not None
            chunk = min(slot.task.prompt - slot.task.done, room)
            if chunk > 0:
                self._batch.append((slot, chunk))
                room -= chunk
        prompt = sum(chunk for _, chunk in self._batch)
        noise = self.random.uniform(0.9, 1.1)
        return self.now + self.machine.step_seconds * noise + prompt * self.machine.prompt_seconds

    def _end_step(self, ends: float) -> None:
        self.now = ends
        busy = [slot for slot in self.slots if slot.task is not None]
        if not busy:
            return
        generating = [s for s in busy if s.task is not None and s.task.done >= s.task.prompt]
        for slot, chunk in self._batch:
            assert slot.task is not None
            slot.task.done += chunk
            slot.context += chunk
            slot.processed += chunk
            self.prompted += chunk
            if self.machine.counts_prompts == "live":
                self.prompt_counted += chunk
            if slot.task.done >= slot.task.prompt:
                generating.append(slot)
                if self.machine.counts_prompts == "first token":
                    self.prompt_counted += slot.task.prompt
        for slot in generating:
            assert slot.task is not None
            slot.task.generated += 1
            slot.shown += 1
            self.generated += 1
            if slot.task.generated >= slot.task.length:
                self.counted += slot.task.generated
                client = slot.task.client
                slot.task, slot.used = None, ends
                if client is not None:
                    again = self.random.uniform(0.5, 1.5) * self.load.turnaround
                    self.arrivals.append((ends + again, client))

    def _counters(self) -> TokenCounters:
        total, prompts = f"{self.counted:g}", f"{self.prompt_counted:g}"
        return TokenCounters(
            float(total),
            printed_step(total.encode()),
            float(prompts),
            printed_step(prompts.encode()),
        )

    def _shown(self, at: float) -> tuple[Slot, ...]:
        slots = tuple(self._slot(number, slot) for number, slot in enumerate(self.slots))
        told = {
            str(slot.id): {name: value for name, value in asdict(slot).items() if value is not None}
            for slot in slots
        }
        glances.watch(self._state, told, at)
        return slots

    def _read(self, counters: TokenCounters, at: float) -> Read:
        sample = WorkerSample(
            "worker",
            "llama-server",
            health="ok",
            slots=self._shown(at),
            glances=tuple(self._glances),
            counters=counters,
            identity="1",
            read_at_seconds=at,
        )
        return Read(sample, self.generated, self.prompted)

    def _slot(self, number: int, slot: _SlotState) -> Slot:
        if slot.last_id is None:
            return Slot(number, False)
        task = slot.task
        if task is None:
            return Slot(
                number,
                False,
                task_id=slot.last_id,
                prompt_tokens=slot.context,
                prompt_tokens_processed=slot.processed if self.machine.reads == "after" else 0,
                prompt_tokens_cached=0,
            )
        # a slot that has not begun its task still shows the one before
        remaining = None if slot.shown_limit is None else slot.shown_limit - slot.shown
        return Slot(
            number,
            True,
            4096,
            slot.last_id,
            slot.context,
            slot.processed,
            0,
            slot.shown,
            remaining,
        )

"""The people who use the cluster: requests of random sizes that come in waves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from random import Random
from typing import Protocol

from msgspec import Struct

from .engine import Happening, Request
from .worker import Worker

WAVE_SECONDS = 150.0
Reach = Callable[[str], Worker | None]


class Road(Protocol):
    """One request's way to a worker, until it is closed."""

    @property
    def address(self) -> str:
        """Where it leads."""

    def close(self) -> None:
        """The request is over."""


class Chooser(Protocol):
    """Who spreads the requests."""

    def choose(self, upstream: str) -> Road | None:
        """A way to a worker, None where there is none."""

    def refuse(self, link: Road) -> None:
        """Nobody answered there."""


class Straight(Struct, eq=False):
    """A way without a balancer."""

    address: str
    held: set[Straight]

    def close(self) -> None:
        """The request is over."""
        self.held.discard(self)


class Nobody:
    """A cluster without a balancer: people call the workers themselves."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.held: dict[str, set[Straight]] = {address: set() for address in addresses}
        self.refused: dict[str, float] = {}

    def choose(self, upstream: str) -> Road | None:
        """The worker with the fewest requests."""
        now = time.monotonic()
        ready = [one for one in self.addresses if self.refused.get(one, 0.0) < now]
        if not ready:
            return None
        address = min(ready, key=lambda one: len(self.held[one]))
        road = Straight(address, self.held[address])
        road.held.add(road)
        return road

    def refuse(self, link: Road) -> None:
        """Nobody calls there for a while."""
        link.close()
        self.refused[link.address] = time.monotonic() + 10.0


class Workload:
    """Keeps as many requests open as the time of day asks for, through the balancer.

    `reach` leads from a member's address to the worker behind it, None where nothing answers.
    With `long` answers a fleet is kept busy by fewer of them.
    """

    def __init__(
        self, chooser: Chooser, upstream: str, slots: int, reach: Reach, random: Random, long: bool
    ) -> None:
        self.chooser = chooser
        self.upstream = upstream
        self.slots = slots
        self.reach = reach
        self.random = random
        self.long = long
        self.pace = max(12.0, slots / 3)
        self.open: dict[Request, Road] = {}
        self.started: float | None = None
        self.next_at = 0.0
        self.cut = 0
        self.finished = 0

    def wanted(self, now: float) -> int:
        """How many requests people want answered at this moment."""
        passed = now - (self.started if self.started is not None else now)
        day = 0.72 + 0.36 * math.sin(2 * math.pi * passed / WAVE_SECONDS + 0.5)
        ripple = 0.08 * math.sin(2 * math.pi * passed / 23.0)
        return max(1, round(self.slots * (day + ripple)))

    def advance(self, now: float) -> None:
        """Send what is due."""
        if self.started is None:
            self.started = now
        while self.next_at <= now and len(self.open) < self.wanted(now):
            if not self.send():
                self.next_at = now + 0.5
                return
            self.next_at = max(self.next_at, now - 2.0) + self.random.expovariate(self.pace)

    def request(self) -> Request:
        """One of the sizes that people send: a question, sometimes a document."""
        document = self.random.random() < 0.12
        prompt = self.random.lognormvariate(7.0 if document else 5.2, 0.6)
        answer = self.random.lognormvariate(5.9 if self.long else 4.7, 0.55)
        size = int(min(3000, max(12, prompt)))
        cached = int(size * self.random.uniform(0.3, 0.9)) if self.random.random() < 0.4 else 0
        return Request(size, int(min(1500 if self.long else 400, max(16, answer))), cached)

    def send(self) -> bool:
        """Send one request to the member that nginx chooses; false where none takes it."""
        while (link := self.chooser.choose(self.upstream)) is not None:
            worker = self.reach(link.address)
            if worker is not None:
                request = self.request()
                request.listener = self._hear
                self.open[request] = link
                if worker.submit(request):
                    return True
                self.open.pop(request, None)
            self.chooser.refuse(link)
        return False

    def _hear(self, request: Request, happening: Happening) -> None:
        if happening in ("end", "cut"):
            link = self.open.pop(request, None)
            if link is not None:
                link.close()
            if happening == "cut":
                self.cut += 1
            else:
                self.finished += 1

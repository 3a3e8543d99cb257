"""How many machines are logged in to at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

AT_ONCE: Final = 4
PATIENCE_SECONDS: Final = 1.0


class Turns:
    """Lets a few threads do what takes the processor, while any number wait for the network.

    Of 64 machines the first are there sooner when they are logged in to one after another than
    when all share the processor. Whoever holds a turn for longer than `patience_seconds` waits for
    somebody else, and is counted no more.
    """

    def __init__(self, at_once: int = AT_ONCE, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._at_once = at_once
        self._patience = patience_seconds
        self._changed = threading.Condition()
        self._held: list[float] = []

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; blocks."""
        with self._changed:
            while (seconds := self._seconds()) > 0:
                self._changed.wait(seconds)
            began = time.monotonic()
            self._held.append(began)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(began)
                self._changed.notify()

    def _seconds(self) -> float:
        """How long until a turn is free at the latest."""
        now = time.monotonic()
        counted = [began for began in self._held if now - began < self._patience]
        return min(counted) + self._patience - now if len(counted) >= self._at_once else 0.0

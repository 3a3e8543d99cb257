"""Turns: a few at once in the processor's sense, any number who wait for somebody else."""

from __future__ import annotations

import threading
import time

from llamatop.transport.turns import Turns

LONG = 30.0


class Crowd:
    """Threads that each take a turn and hold it until told."""

    def __init__(self, turns: Turns, count: int) -> None:
        self.inside = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._turns = turns
        self.threads = [threading.Thread(target=self._take, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _take(self) -> None:
        with self._turns.turn():
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            self.inside.release()
            self.leave.acquire(timeout=LONG)
            with self._lock:
                self._now -= 1

    def end(self) -> None:
        for _ in self.threads:
            self.leave.release()
        for thread in self.threads:
            thread.join(LONG)
            assert not thread.is_alive()


def test_no_more_than_so_many_at_once() -> None:
    crowd = Crowd(Turns(at_once=3, patience_seconds=LONG), 20)
    for _ in range(20):
        assert crowd.inside.acquire(timeout=LONG)
        crowd.leave.release()
    crowd.end()
    assert crowd.most == 3


def test_who_holds_a_turn_for_long_holds_nobody_up() -> None:
    began = time.monotonic()
    crowd = Crowd(Turns(at_once=2, patience_seconds=0.1), 10)
    for _ in range(10):
        assert crowd.inside.acquire(timeout=LONG), "the others never had their turn"
    assert time.monotonic() - began >= 0.4, "five pairs, one after another"
    crowd.end()
    assert crowd.most == 10

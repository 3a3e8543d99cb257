"""Turns: a few at once in the processor's sense, any number who wait for somebody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

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
    crowd = Crowd(Turns(at_once=3, patience_seconds=LONG, lead_seconds=0), 20)
    for _ in range(20):
        assert crowd.inside.acquire(timeout=LONG)
        crowd.leave.release()
    crowd.end()
    assert crowd.most == 3


def test_who_holds_a_turn_for_long_holds_nobody_up() -> None:
    began = time.monotonic()
    crowd = Crowd(Turns(at_once=2, patience_seconds=0.1, lead_seconds=0), 10)
    for _ in range(10):
        assert crowd.inside.acquire(timeout=LONG), "the others never had their turn"
    assert time.monotonic() - began >= 0.4, "five pairs, one after another"
    crowd.end()
    assert crowd.most == 10


def test_who_is_further_along_goes_first_and_else_who_asked_first() -> None:
    turns = Turns(at_once=1, patience_seconds=LONG)
    went: list[str] = []
    asked = threading.Semaphore(0)

    def take(name: str, further: int) -> None:
        asked.release()
        with turns.turn(further):
            went.append(name)

    threads = []
    with turns.turn():
        for name, further in (("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 2), ("f", 1)):
            thread = threading.Thread(target=take, args=(name, further), daemon=True)
            thread.start()
            threads.append(thread)
            until(lambda: turns.waiting == len(threads))
    for thread in threads:
        thread.join(LONG)
    assert went == ["e", "c", "f", "a", "b", "d"]


def test_one_at_a_time_goes_until_somebody_was_logged_in_to() -> None:
    turns = Turns(at_once=4, patience_seconds=LONG, lead_seconds=0.2)
    crowd = Crowd(turns, 10)
    assert crowd.inside.acquire(timeout=LONG)
    until(lambda: turns.waiting == 9)
    login = threading.Thread(target=_enter, args=(turns,), daemon=True)
    login.start()
    until(lambda: turns.waiting == 10)
    assert not crowd.inside.acquire(blocking=False), "one at first"
    began = time.monotonic()
    crowd.leave.release()
    login.join(LONG)
    for _ in range(4):
        assert crowd.inside.acquire(timeout=LONG), "it was logged in to: four from now on"
    assert time.monotonic() - began >= 0.2, "its first figures went before them"
    crowd.end()
    assert crowd.most == 4


def test_a_first_one_that_hangs_lets_the_usual_number_in() -> None:
    turns = Turns(at_once=3, patience_seconds=0.3, lead_seconds=LONG)
    began = time.monotonic()
    crowd = Crowd(turns, 7)
    for _ in range(7):
        assert crowd.inside.acquire(timeout=LONG)
    assert time.monotonic() - began >= 0.6, "one, then three, then three"
    crowd.end()
    assert crowd.most == 7


def test_a_first_wave_that_hangs_holds_nobody_up() -> None:
    turns = Turns(at_once=4, patience_seconds=0.1)
    hanging = Crowd(turns, 8)
    others = Crowd(turns, 8)
    for _ in range(8):
        assert others.inside.acquire(timeout=LONG), "nobody came after those that hang"
    assert hanging.most == 8
    others.end()
    hanging.end()


def _enter(turns: Turns) -> None:
    with turns.turn(1):
        pass


def until(true: Callable[[], bool]) -> None:
    """Wait for what the threads come to by themselves."""
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)

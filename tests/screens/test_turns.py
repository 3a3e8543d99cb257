"""Whose turn it is: a key's before the figures', and no figure waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from llamatop.app.turns import KEY_SECONDS, LONGEST_SECONDS, Turns
from tests.screens import clusters
from tests.screens.stage import Stage, until


class Later:
    """A clock that is moved by hand, and what is to be called when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.turns = Turns(self.call, lambda: self.now)
        self.done: list[int] = []

    def call(self, seconds: float, what: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, what))

    def pass_to(self, now: float) -> None:
        self.now = now
        ready = [what for at, what in self.due if at <= now]
        self.due = [one for one in self.due if one[0] > now]
        for what in ready:
            what()

    def work(self, pieces: int, keys: tuple[int, ...] = ()) -> Iterator[None]:
        """A key comes while each piece in `keys` is done."""
        for piece in range(pieces):
            self.done.append(piece)
            if piece in keys:
                self.turns.came()
            yield


def test_without_keys_all_is_done_at_once() -> None:
    later = Later()
    later.turns.do(later.work(3))
    assert later.done == [0, 1, 2]


def test_a_key_is_answered_between_two_pieces() -> None:
    later = Later()
    later.turns.do(later.work(4, keys=(1,)))
    assert later.done == [0, 1]
    later.turns.answered(1)
    assert later.done == [0, 1, 2, 3]


def test_a_key_that_came_after_the_one_answered_still_waits() -> None:
    later = Later()
    later.turns.do(later.work(3, keys=(0,)))
    later.turns.came()
    later.turns.answered(1)
    assert later.done == [0]
    later.turns.answered(2)
    assert later.done == [0, 1, 2]


def test_a_key_that_nobody_answers_is_not_waited_for_long() -> None:
    later = Later()
    later.turns.do(later.work(2, keys=(0,)))
    later.pass_to(KEY_SECONDS / 2)
    assert later.done == [0]
    later.pass_to(KEY_SECONDS)
    assert later.done == [0, 1]


def test_however_many_keys_come_the_figures_are_drawn() -> None:
    later = Later()
    later.turns.do(later.work(2, keys=(0,)))
    at = 0.0
    while at < LONGEST_SECONDS + KEY_SECONDS and len(later.done) < 2:
        at += KEY_SECONDS / 2
        later.turns.came()
        later.pass_to(at)
    assert later.done == [0, 1]


def test_newer_figures_take_the_place_of_those_half_drawn() -> None:
    later = Later()
    later.turns.do(later.work(3, keys=(0,)))
    later.turns.do(later.work(2))
    assert later.done == [0]
    later.turns.answered(1)
    assert later.done == [0, 0, 1]


async def test_a_tick_that_a_key_held_up_is_shown_once_that_is_painted() -> None:
    app = Stage(clusters.well(1))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.turns.came()
        app.fake.push(clusters.well(30))
        await pilot.press("j")
        clock = clusters.well(30).taken_at.astimezone().strftime("%H:%M:%S")
        await until(pilot, lambda: clock in app.shown(), "the tick")
        assert app.table.selected_name == "node1/gpu1"


async def test_lines_wait_for_a_key_together_and_go_on_together() -> None:
    turns = Turns(lambda seconds, what: None)
    await asyncio.wait_for(turns.clear(), 30)
    turns.came()
    held = [asyncio.create_task(turns.clear()) for _ in range(64)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in held)
    turns.answered(1)
    async with asyncio.timeout(30):
        await asyncio.gather(*held)

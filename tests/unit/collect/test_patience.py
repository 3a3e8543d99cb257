"""Patience with a wait, and with the next one."""

from __future__ import annotations

import asyncio

import pytest

from llamatop.collect.patience import Patience

from . import virtual


async def waits(patience: Patience, *seconds: float) -> None:
    for one in seconds:
        patience.begin()
        await asyncio.sleep(one)
        patience.end()


def test_any_number_of_waits_that_are_short_enough() -> None:
    async def wait() -> float:
        async with Patience(8) as patience:
            await waits(patience, *[7.9, 0.1, 5] * 20)
            return virtual.clock()

    assert virtual.run(wait()) == pytest.approx(1000 + 20 * 13)


@pytest.mark.parametrize("before", [(), (7.9,), (1, 1, 1, 6)])
def test_one_that_is_too_long_ends_when_its_own_time_is_up(before: tuple[float, ...]) -> None:
    async def wait() -> float:
        with pytest.raises(TimeoutError):
            async with Patience(8) as patience:
                await waits(patience, *before, 9)
        return virtual.clock()

    assert virtual.run(wait()) == pytest.approx(1008 + sum(before))


def test_what_is_done_between_two_waits_takes_as_long_as_it_does() -> None:
    async def wait() -> float:
        async with Patience(8) as patience:
            for _ in range(3):
                await waits(patience, 1)
                await asyncio.sleep(100)
            return virtual.clock()

    assert virtual.run(wait()) == pytest.approx(1303)


def test_it_may_become_less_and_more() -> None:
    async def impatient(first: float, then: float) -> None:
        async with Patience(first) as patience:
            await waits(patience, 1)
            patience.seconds = then
            assert patience.seconds == then
            await waits(patience, 100)

    async def wait(first: float, then: float) -> float:
        with pytest.raises(TimeoutError):
            await impatient(first, then)
        return virtual.clock()

    assert virtual.run(wait(15, 8)) == pytest.approx(1009)
    assert virtual.run(wait(8, 15)) == pytest.approx(1016)


def test_being_cancelled_from_outside_is_no_time_out() -> None:
    async def patient() -> None:
        async with Patience(8) as patience:
            await waits(patience, 7)

    async def wait() -> None:
        task = asyncio.create_task(patient())
        asyncio.get_running_loop().call_later(3, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(100)

    virtual.run(wait())

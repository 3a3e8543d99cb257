"""Deliveries: one wake-up for many connections, none held up that comes alone."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from llamatop.transport.deliveries import LONGEST_SECONDS, Deliveries

PATIENCE = 30.0


async def test_what_comes_alone_comes_at_once() -> None:
    deliveries = Deliveries()
    deliveries.join()
    for _ in range(50):
        deliveries.join()
    come = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    threading.Thread(target=deliveries.put, args=(come.set,)).start()
    await asyncio.wait_for(come.wait(), PATIENCE)
    first = loop.time() - begun
    again = asyncio.Event()
    deliveries.put(again.set)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # the next one waits for its pause, unless this machine slept meanwhile
    assert not again.is_set() or loop.time() - begun - first >= deliveries.pause_seconds
    await asyncio.wait_for(again.wait(), PATIENCE)


async def test_what_comes_together_is_delivered_together_and_once() -> None:
    deliveries = Deliveries()
    for _ in range(64):
        deliveries.join()
    loop = asyncio.get_running_loop()
    turns: dict[int, list[float]] = {}
    done = asyncio.Event()

    def noted(number: int) -> None:
        turns.setdefault(number, []).append(loop.time())
        if number == 64:
            done.set()

    waiting = [lambda number=number: noted(number) for number in range(65)]
    for deliver in [*waiting[:64], *waiting]:
        deliveries.put(deliver)
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert list(turns) == list(range(65))
    assert all(len(times) == 1 for times in turns.values())


def test_the_pause_grows_with_the_readers_up_to_its_bound() -> None:
    async def pauses() -> list[float]:
        deliveries = Deliveries()
        found = []
        for count in (1, 4, 1000):
            while deliveries.readers < count:
                deliveries.join()
            found.append(deliveries.pause_seconds)
        for _ in range(999):
            deliveries.leave()
        return [*found, deliveries.pause_seconds]

    alone, few, many, alone_again = asyncio.run(pauses())
    assert alone == alone_again == 0
    assert 0 < few < 0.01
    assert many == pytest.approx(LONGEST_SECONDS)


def test_putting_after_the_loop_has_ended_does_nothing() -> None:
    deliveries = Deliveries()

    async def join() -> None:
        deliveries.join()

    asyncio.run(join())
    called: list[int] = []
    deliveries.put(lambda: called.append(1))
    deliveries.put(lambda: called.append(2))
    assert called == []


async def test_a_socket_is_taken_from_in_the_loop_until_it_is_unwatched() -> None:
    deliveries = Deliveries()
    near, far = socket.socketpair()
    taken: list[bytes] = []
    come = asyncio.Event()

    def take() -> bool:
        assert threading.current_thread() is threading.main_thread()
        taken.append(near.recv(1))
        if len(taken) == 4:
            come.set()
        return len(taken) < 3

    with near, far:
        assert not deliveries.watch(near.fileno(), take), "nothing is attached"
        deliveries.attach()
        assert await asyncio.to_thread(deliveries.watch, near.fileno(), take)
        far.send(b"abcd")
        await asyncio.wait_for(come.wait(), PATIENCE)
        assert taken == [b"a", b"b", b"c", b"d"]
        await asyncio.to_thread(deliveries.unwatch, near.fileno())
        far.send(b"e")
        await asyncio.sleep(0.05)
        assert near.recv(1) == b"e"
        deliveries.detach()
        assert not deliveries.watch(near.fileno(), take)


async def test_what_sockets_bring_together_is_taken_after_one_pause() -> None:
    deliveries = Deliveries()
    for _ in range(64):
        deliveries.join()
    deliveries.attach()
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(8)]
    times: list[float] = []
    done = asyncio.Event()

    def taker(near: socket.socket) -> Callable[[], bool]:
        def take() -> bool:
            near.recv(10)
            times.append(loop.time())
            if len(times) == 9:
                done.set()
            return False

        return take

    try:
        for near, _ in pairs:
            assert deliveries.watch(near.fileno(), taker(near))
        pairs[0][1].send(b"first")
        while not times:
            await asyncio.sleep(0)
        for _, far in pairs:
            far.send(b"then")
            await asyncio.sleep(0)
        await asyncio.wait_for(done.wait(), PATIENCE)
        assert times[1] - times[0] >= deliveries.pause_seconds - 0.01
        assert times[-1] - times[1] < deliveries.pause_seconds
    finally:
        deliveries.detach()
        for near, far in pairs:
            near.close()
            far.close()

"""What an interrupt does once there is something to put back: it is cancelled, or undone first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from llamatop.cli.start import INTERRUPTED, leave

__all__ = ["INTERRUPTED", "run", "undoing"]

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """asyncio.run, in which an interrupt cancels `work` and a second one leaves at once.

    Raises KeyboardInterrupt where it was cancelled.
    """
    import asyncio

    before = signal.getsignal(signal.SIGINT)
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


async def _interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or task.done():
            leave(number, frame)
        asked = True
        loop.call_soon_threadsafe(task.cancel)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    return await work


@contextmanager
def undoing(undo: Callable[[], None]) -> Iterator[None]:
    """At the end of the block, and where an interrupt leaves it, call `undo`; twice is no harm.

    Blocks may be nested: an interrupt undoes the inner one first.
    """
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        undo()
        (before if callable(before) else leave)(number, frame)

    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            undo()
        finally:
            signal.signal(signal.SIGINT, before)

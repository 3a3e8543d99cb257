"""What the person says to a plan on its way: pause, go on, and what of a drain that takes long."""

from __future__ import annotations

import asyncio
from typing import Literal

Answer = Literal["wait", "force", "undo"]
OnTimeout = Literal["wait", "force", "undo", "ask"]


class Control:
    """Held by whoever shows the plan, obeyed by its execution.

    `on_timeout` is what happens when a drain's time is up; "ask" sets `asking` and goes on waiting
    until `answer` is called or the drain is over by itself. A pause begins between two groups of
    workers: `standing` is true from then on.
    """

    def __init__(self, on_timeout: OnTimeout = "undo") -> None:
        self.on_timeout = on_timeout
        self.asking = False
        self.standing = False
        self.hurried = asyncio.Event()
        self._answer: Answer | None = None
        self._answered = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()

    @property
    def paused(self) -> bool:
        """Whether it is to stand still before the next group of workers."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Stand still once the group at hand is done."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    def hurry(self) -> None:
        """While putting back: leave out what does not serve yet instead of waiting for it."""
        self.hurried.set()

    def answer(self, answer: Answer) -> None:
        """Settle the drain that is late; nothing happens while none is."""
        if self.asking:
            self._answer = answer
            self._answered.set()

    async def between(self) -> None:
        """Wait here while it is paused."""
        self.standing = self.paused
        try:
            await self._going.wait()
        finally:
            self.standing = False

    def late(self) -> Answer | None:
        """What to do now that a drain's time is up; None as long as nobody has said."""
        if self.on_timeout != "ask":
            return self.on_timeout
        self.asking = True
        answer, self._answer = self._answer, None
        if answer is not None:
            self.in_time()
        return answer

    def in_time(self) -> None:
        """The drain is over, or has time again."""
        self.asking = False
        self._answer = None
        self._answered.clear()

    async def answered(self) -> None:
        """Wait for an answer."""
        await self._answered.wait()

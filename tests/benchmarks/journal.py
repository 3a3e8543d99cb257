"""Following a journal on the log screen, beside reading the same lines bare."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from llamatop.app.screens.logs import LogScreen
from llamatop.app.widgets.journal import JournalView
from llamatop.model.plan import Command
from llamatop.transport.local import LocalMachine
from tests.screens.stage import Stage

LINES = 10_000
PACED_SECONDS = 5
# Prints so many lines, LINES a second where paced, each with the time at which it was printed.
PRINTER = f"""
import sys, time
count, paced = int(sys.argv[1]), sys.argv[2] == "paced"
begun = time.monotonic()
for place in range(count):
    if paced and place % 100 == 0:
        time.sleep(max(0.0, begun + place / {LINES} - time.monotonic()))
    print("2026-11-21T02:13:41+0000 node1 llama-server[159]: slot update: id %d | task %d | at %.6f"
          % (place % 4, place, time.monotonic()), flush=place % 100 == 99)
"""


async def printed(count: int, pace: str) -> AsyncIterator[str]:
    """The lines of a process, as the journal's are read from journalctl."""
    machine = LocalMachine("here")
    command = Command((sys.executable, "-c", PRINTER, str(count), pace))
    channel = await machine.open(command)
    try:
        while line := await channel.readline():
            yield line.rstrip(b"\n").decode()
    finally:
        await channel.close()


async def bare() -> float:
    """Seconds from the first line to the last, read and nothing else."""
    first = 0.0
    async with aclosing(printed(LINES, "free")) as lines:
        async for _ in lines:
            first = first or time.monotonic()
    return time.monotonic() - first


class Flooded(Stage):
    """The app whose journal is a process's output."""

    def __init__(self, count: int, pace: str) -> None:
        super().__init__()
        self.first = 0.0
        self.read = 0

        async def journal(worker: str, lines: int = 200, follow: bool = True) -> AsyncIterator[str]:
            async with aclosing(printed(count, pace)) as entries:
                async for line in entries:
                    self.first = self.first or time.monotonic()
                    self.read += 1
                    yield line
            await asyncio.Event().wait()

        self.fake.journal = journal  # type: ignore[method-assign]  # in its place


async def on_screen() -> float:
    """The same until the last line is shown."""
    app = Flooded(LINES, "free")
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("l")
        while f"task {LINES - 1} " not in app.shown():
            await asyncio.sleep(0.01)
        return time.monotonic() - app.first


async def lag() -> tuple[float, float]:
    """How old the newest line on the screen is at LINES a second: mean and largest, in seconds."""
    count = LINES * PACED_SECONDS
    app = Flooded(count, "paced")
    ages: list[float] = []
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("l")
        assert isinstance(app.screen, LogScreen)
        view = app.screen.query_one(JournalView)
        while app.read < count:
            await asyncio.sleep(0.02)
            if app.read and view.entry_count():
                newest = view.line(view.count() - 1, 200).plain
                ages.append(time.monotonic() - float(newest.rpartition(" ")[2]))
    return sum(ages) / len(ages), max(ages)


def run() -> Iterator[tuple[str, str]]:
    """The figures."""
    alone = min(asyncio.run(bare()) for _ in range(3))
    shown = min(asyncio.run(on_screen()) for _ in range(3))
    yield f"{LINES:,} lines read bare", f"{alone:.2f} s"
    yield f"{LINES:,} lines with the log screen open", f"{shown:.2f} s, {shown / alone:.1f} × bare"
    mean, worst = asyncio.run(lag())
    yield f"age of the newest line at {LINES:,} a second", f"{mean:.2f} s mean, {worst:.2f} s most"

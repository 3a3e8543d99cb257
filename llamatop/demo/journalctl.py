"""journalctl of a simulated machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .journal import Entry
from .systemctl import options

if TYPE_CHECKING:
    from .control import Output
    from .machine import Machine


async def journalctl(machine: Machine, argv: list[str], output: Output) -> int:
    """Run one journalctl; with -f it goes on until the reader is gone."""
    found, _ = options(argv)
    patterns = found.get("-u", []) + found.get("--unit", [])
    units = {unit.name for pattern in patterns for unit in machine.find(pattern)}
    style = (found.get("-o", []) + found.get("--output", []) + ["short"])[0]
    follow = "-f" in found or "--follow" in found
    wanted = (found.get("-n", []) + found.get("--lines", []) + ["10" if follow else "all"])[0]
    limit = None if wanted in ("all", "") else int(wanted)

    def matches(entry: Entry) -> bool:
        return not patterns or entry.unit in units

    queue: asyncio.Queue[Entry] = asyncio.Queue()

    def hear(entry: Entry) -> None:
        if matches(entry):
            queue.put_nowait(entry)

    past = [entry for entry in machine.journal.entries if matches(entry)]
    if limit is not None:
        past = past[len(past) - limit :] if limit < len(past) else past
    if not past and not follow and not ({"-q", "--quiet"} & found.keys()):
        output.write("-- No entries --\n")
    if follow:
        machine.journal.followers.append(hear)
    try:
        output.write("".join(machine.journal.format(entry, style) + "\n" for entry in past))
        while follow:
            entry = await queue.get()
            output.write(machine.journal.format(entry, style) + "\n")
            await output.drain()
    finally:
        if follow:
            machine.journal.followers.remove(hear)
    return 0

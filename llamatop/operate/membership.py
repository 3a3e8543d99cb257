"""The membership transaction as seen from here: send the program, listen, ask again when cut."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence

from llamatop.errors import Unreachable
from llamatop.model.plan import Command, FileChange
from llamatop.transport.base import Machine

from . import program, systemd
from .failure import StepFailed
from .files import digest

LOCK_SECONDS = 15.0
CONFIRM_SECONDS = 15.0
RETRY_SECONDS = 60.0
_SAID = {
    "locked": "has the lock",
    "written": "file written",
    "tested": "nginx -t passed",
    "reloaded": "reloaded",
    "confirmed": "new nginx workers serve",
    "restored": "old file put back",
    "repaired": "what a killed change left is cleared away",
}


class MembershipFailed(StepFailed):
    """The transaction stopped; everything is as it was before, unless the text says otherwise.

    `step` is where: lock, repair, changed, write, test, reload, confirm, read or program.
    """

    def __init__(self, step: str, text: str) -> None:
        self.step = step
        super().__init__(text)


async def transact(
    machine: Machine,
    changes: Sequence[FileChange],
    *,
    sudo: tuple[str, ...],
    unit: str | None,
    holder: str,
    progress: Callable[[str], None],
) -> None:
    """Make the changes on the balancer; raises MembershipFailed, or Unreachable after a minute.

    Where the connection is cut half-way the program there goes on by itself; asking for the same
    again finds the new files there and only tests, reloads and confirms.
    """
    request = {
        "files": [
            {
                "path": change.path,
                "target": change.target,
                "before": digest(change.before),
                "after": digest(change.after),
                "text": change.after.decode("latin-1"),
            }
            for change in changes
        ],
        "sudo": list(sudo),
        "unit": unit,
        "test": [*sudo, "nginx", "-t"],
        "reload": [*sudo, *systemd.reload_nginx(unit).argv],
        "holder": holder,
        "lock_seconds": LOCK_SECONDS,
        "confirm_seconds": CONFIRM_SECONDS,
    }
    data = program.source() + json.dumps(request).encode() + b"\n"
    give_up = time.monotonic() + RETRY_SECONDS
    pause = 0.5
    while True:
        try:
            return await _once(machine, program.command(), data, progress)
        except Unreachable as error:
            if time.monotonic() + pause > give_up:
                raise
            progress(f"connection lost ({error.text}); asking again")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 8.0)


async def _once(
    machine: Machine, command: Command, data: bytes, progress: Callable[[str], None]
) -> None:
    channel = await machine.open(command)
    try:
        await channel.write(data)
        await channel.write_eof()
        while line := await channel.readline():
            event = _parse(line)
            what = str(event.get("event"))
            if what == "done":
                return
            if what == "failed":
                raise MembershipFailed(str(event.get("step")), str(event.get("error")))
            progress(_SAID.get(what, what))
        ended = await channel.wait()
        words = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        if ended.status in (126, 127) or (words and "Error" in words[-1]):
            raise MembershipFailed(
                "program",
                f"python3 on {machine.name} cannot run the transaction"
                f" ({words[-1] if words else ended.status}): apt-get install python3",
            )
        raise Unreachable(machine.name, "the transaction's answer was cut off")
    finally:
        await channel.close()


def _parse(line: bytes) -> dict[str, object]:
    try:
        event = json.loads(line)
    except ValueError:
        return {"event": "says something else"}
    return event if isinstance(event, dict) else {"event": "says something else"}

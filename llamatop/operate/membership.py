"""The membership transaction as seen from here: send the program, listen, ask again when cut."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from llamatop.errors import Unreachable
from llamatop.model.declared import Balancer
from llamatop.model.plan import Command, FileChange, MembershipEdit, NewUnit, Reshaping
from llamatop.transport.base import Machine

from . import program, reloading
from .failure import StepFailed
from .files import BalancerFiles, Moved, digest

LOCK_SECONDS = 15.0
CONFIRM_SECONDS = 15.0
RETRY_SECONDS = 60.0
_OTHER_HANDS = 5
_SAID = {
    "locked": "has the lock",
    "written": "file written",
    "tested": "nginx -t passed",
    "reloaded": "reloaded",
    "confirmed": "new nginx workers serve",
    "unconfirmed": "whether new nginx workers serve cannot be seen there",
    "restored": "old file put back",
    "repaired": "what a killed change left is cleared away",
    "unrecorded": "not written down there",
}


class Lease(Protocol):
    """What a plan has written down of the members it moves; see `leases.Lease`."""

    def note(self, edits: Sequence[MembershipEdit]) -> dict[str, object]:
        """What the record is to say of these edits."""

    def moved(self, edits: Sequence[MembershipEdit]) -> None:
        """They are made."""


class CutOff(Struct, frozen=True):
    """A split or unsplit that did not say that it ended; `over`: nor that it goes on.

    `own` where root or this user wrote it down; `record` is the file that says so.
    """

    node: str
    plan: str
    who: str
    what: str
    minutes: int
    over: bool
    own: bool
    record: str
    reshapings: tuple[Reshaping, ...]

    @property
    def mend(self) -> str:
        """What puts one right that is over, as half a sentence."""
        if self.own:
            return "llamatop recover first"
        return (
            f"it stands in {self.record} of {self.node}, which is another user's, so it is not"
            " obeyed: have that user run llamatop recover, or remove that file"
        )


class MembershipFailed(StepFailed):
    """The transaction stopped; everything is as it was before, unless the text says otherwise.

    `step` is where: lock, repair, changed, write, test, reload, confirm, read, program, or python3
    where that cannot run the program at all.
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
    own: Balancer | None = None,
    edits: Sequence[MembershipEdit] = (),
    lease: Lease | None = None,
    look_again: Callable[[], Awaitable[None]] | None = None,
) -> str:
    """Make the changes on the balancer; raises MembershipFailed, or Unreachable after a minute.

    Returns what could not be written down of it there, empty where all was.

    Where the connection is cut half-way the program there goes on by itself; asking for the same
    again finds the new files there and only tests, reloads and confirms. Where another hand
    changed a file elsewhere meanwhile, `edits` are made anew, after `look_again`, which may
    object. `own` has the cluster file's own commands; `lease` what is written down of members.
    """
    unrecorded = ""

    def heard(event: dict[str, object]) -> None:
        nonlocal unrecorded
        if event.get("event") == "unrecorded":
            unrecorded = (
                f"not written down on {machine.name} ({event.get('error')}): were this plan"
                " cut off, nobody could tell what it left drained"
            )

    for _ in range(_OTHER_HANDS):
        try:
            request = _request(changes, sudo, unit, own) | {
                "holder": holder,
                "drains": lease.note(edits) if lease else None,
            }
            await _ask(machine, request, progress, heard=heard)
            break
        except MembershipFailed as failure:
            if failure.step != "changed" or not edits:
                raise
            last = failure
        paths = [change.path for change in changes]
        try:
            changes = (await BalancerFiles.fetch(machine, paths, sudo)).anew(changes, edits)
        except Moved as moved:
            raise MembershipFailed("changed", str(moved)) from last
        if look_again is not None:
            await look_again()
        progress("another hand changed the file elsewhere meanwhile: edited anew")
    else:
        raise last
    if lease is not None:
        lease.moved(edits)
    return unrecorded


async def note(machine: Machine, holder: str, about: dict[str, object], event: str) -> None:
    """Write one line into this user's record of drained members; raises as `transact` does."""
    request = {"do": "note", "holder": holder, "about": about, "event": event}
    await _ask(machine, request | {"lock_seconds": LOCK_SECONDS}, lambda text: None, 0.0)


async def killed(machine: Machine, holder: str, targets: Sequence[str]) -> dict[str, str]:
    """What killed transactions left beside these files, by file; see `onnode.files.leftover`."""
    found: dict[str, str] = {}
    request = {"do": "look", "holder": holder, "targets": list(targets)}
    await _ask(
        machine,
        request | {"lock_seconds": LOCK_SECONDS},
        lambda text: None,
        heard=lambda event: found.update(_left(event)),
    )
    return found


async def reshape(
    machine: Machine,
    holder: str,
    about: dict[str, object],
    reshapings: Sequence[Reshaping],
) -> None:
    """Write down on a worker's node which units are to take the place of which.

    Raises MembershipFailed, of step "lock" where another plan is at these units or left them so,
    "write" where it could not be written down.
    """
    unrecorded: list[str] = []

    def heard(event: dict[str, object]) -> None:
        if event.get("event") == "locked":
            # Asked again after a cut connection.
            unrecorded.clear()
        elif event.get("event") == "unrecorded":
            unrecorded.append(str(event.get("error")))

    listed = [
        {"news": [_unit(u) for u in one.news], "olds": [_unit(u) for u in one.olds]}
        for one in reshapings
    ]
    request = {"do": "reshape", "holder": holder, "about": about, "reshapings": listed}
    await _ask(machine, request | {"lock_seconds": LOCK_SECONDS}, lambda text: None, heard=heard)
    if unrecorded:
        raise MembershipFailed(
            "write", f"what is to be made cannot be written down on {machine.name}: {unrecorded[0]}"
        )


async def reshapes(machine: Machine, holder: str) -> list[CutOff]:
    """The plans on a node that wrote down a reshaping and not its end."""
    found: list[CutOff] = []
    request = {"do": "reshapes", "holder": holder, "lock_seconds": LOCK_SECONDS}

    def heard(event: dict[str, object]) -> None:
        plans = event.get("plans")
        if isinstance(plans, list):
            found.extend(_cut_off(machine.name, one) for one in plans)

    await _ask(machine, request, lambda text: None, heard=heard)
    return found


def _unit(unit: NewUnit) -> list[object]:
    return [unit.unit, unit.digest, unit.enabled]


def _cut_off(node: str, one: dict[str, Any]) -> CutOff:
    made = tuple(
        Reshaping(
            node,
            tuple(NewUnit(*unit) for unit in each["news"]),
            tuple(NewUnit(*unit) for unit in each["olds"]),
        )
        for each in one["reshapings"]
    )
    return CutOff(
        node,
        one["plan"],
        one["who"],
        one["what"],
        one["minutes"],
        one["over"],
        one["own"],
        one["record"],
        made,
    )


def _left(event: dict[str, object]) -> dict[str, str]:
    left = event.get("left")
    return {str(k): str(v) for k, v in left.items()} if isinstance(left, dict) else {}


def _request(
    changes: Sequence[FileChange],
    sudo: tuple[str, ...],
    unit: str | None,
    own: Balancer | None,
) -> dict[str, object]:
    return {
        "do": "transact",
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
        "test": list(reloading.test(own, sudo).argv),
        "reload": list(reloading.reload(own, unit, sudo).argv),
        "own_reload": bool(own and own.reload),
        "lock_seconds": LOCK_SECONDS,
        "confirm_seconds": CONFIRM_SECONDS,
    }


async def _ask(
    machine: Machine,
    request: dict[str, object],
    progress: Callable[[str], None],
    retry_seconds: float = RETRY_SECONDS,
    heard: Callable[[dict[str, object]], None] = lambda event: None,
) -> None:
    """Have the program do it; once more, for so long, where the connection is cut."""
    data = program.source() + json.dumps(request).encode() + b"\n"
    give_up = time.monotonic() + retry_seconds
    pause = 0.5
    while True:
        try:
            return await _once(machine, program.command(), data, progress, heard)
        except Unreachable as error:
            if time.monotonic() + pause > give_up:
                raise
            progress(f"connection lost ({error.text}); asking again")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 8.0)


async def _once(
    machine: Machine,
    command: Command,
    data: bytes,
    progress: Callable[[str], None],
    heard: Callable[[dict[str, object]], None],
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
            heard(event)
            progress(_SAID.get(what, what))
        ended = await channel.wait()
        words = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        too_old = bool(words) and words[-1].startswith("SyntaxError")
        if ended.status in (126, 127) or (words and "Error" in words[-1]):
            raise MembershipFailed(
                "python3" if ended.status in (126, 127) or too_old else "program",
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

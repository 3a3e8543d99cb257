"""A unit's journal, as journalctl on its node prints it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncGenerator

from llamatop.collect.names import SUFFIX, select
from llamatop.errors import NodeError, UsageError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Command
from llamatop.transport.base import Machine

_CURSOR = b"-- cursor: "
# A time, or journalctl's own remark; what stands before came from the login shell's start-up files.
_FIRST = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:|-- ")
# The time, the machine, who says it with its pid, and what.
_ENTRY = re.compile(r"\d{4}-\S+ \S+ ([^:\[\s]+)(?:\[\d+\])?: (.*)")
_FORBIDDEN = ("insufficient permissions", "You are currently not seeing messages")
_PERMITTED_LINES = 200


def unit_of(snapshot: ClusterSnapshot, name: str) -> tuple[str, str]:
    """(node, unit) of a worker `node/short`, or of another unit `node/UNIT` that is watched.

    Raises UsageError where there is none, or several.
    """
    found = select(name, snapshot.workers)
    if len(found) > 1:
        names = ", ".join(worker.name for worker in found)
        raise UsageError(f"{name} means several workers ({names}); name one")
    if found:
        worker = found[0]
        if snapshot.cluster.node(worker.node).ssh is None:
            raise NodeError(
                worker.node,
                "it has no ssh, so its journal cannot be read",
                "give it ssh in a cluster file",
            )
        return worker.node, worker.unit.name
    node, _, unit = name.partition("/")
    for view in snapshot.nodes:
        if view.name == node:
            for candidate in (unit, unit + SUFFIX):
                if candidate in view.snapshot.units:
                    return node, candidate
            if not view.reachable:
                raise NodeError(node, view.fault or "it cannot be reached")
            known = ", ".join(one.name for one in snapshot.workers if one.node == node)
            raise UsageError(f"there is no worker {name}; {node} has {known or 'none'}")
    nodes = ", ".join(view.name for view in snapshot.nodes)
    raise UsageError(f"there is no worker {name}: the nodes are {nodes}")


def permitted(unit: str) -> tuple[Command, Command]:
    """The two commands, the last entries and the same followed, that sudo may allow as they are."""
    last = ("journalctl", "--no-pager", "-o", "short-iso", "-u", unit, "-n", str(_PERMITTED_LINES))
    return Command(last), Command((*last, "-f"))


def own_words(printed: str) -> str:
    """The last entry of the unit's own processes in what `permitted` printed; empty without one."""
    found = ""
    for line in printed.splitlines():
        entry = _ENTRY.match(line)
        if entry and entry[1] not in ("systemd", "sudo"):
            found = entry[2]
    return found


async def journal_lines(
    machine: Machine, unit: str, lines: int, follow: bool
) -> AsyncGenerator[str, None]:
    """The last entries, then each new one where `follow` is set; without line ends.

    Same as `journalctl -u UNIT -n LINES -f -o short-iso`. Raises NodeError where the node cannot
    be reached or the journal may not be read.
    """
    base = ("journalctl", "--no-pager", "-o", "short-iso", "-u", unit)
    done = await machine.run(Command((*base, "-n", str(lines), "--show-cursor")))
    complaint = done.stderr.decode("utf-8", "replace").strip()
    printed = [line for line in done.stdout.split(b"\n") if line]
    entries = list(itertools.dropwhile(lambda line: not _FIRST.match(line), printed))
    if not any(not line.startswith(b"-- ") for line in entries):
        if any(sign in complaint for sign in _FORBIDDEN):
            async for entry in _by_sudo(machine, unit, lines, follow):
                yield entry
            return
        if done.status == 127:
            raise NodeError(machine.name, "there is no journalctl")
        if done.status != 0:
            last = complaint.splitlines()[-1] if complaint else f"status {done.status}"
            raise NodeError(machine.name, f"the journal of {unit} cannot be read: {last}")
    cursor = b""
    for line in entries:
        if line.startswith(_CURSOR):
            cursor = line[len(_CURSOR) :]
        elif not line.startswith(b"-- "):
            yield line.decode("utf-8", "replace")
    if not follow:
        return
    # Nothing is lost or told twice between the two commands.
    start = ("--no-tail", f"--after-cursor={cursor.decode('ascii', 'replace')}")
    channel = await machine.open(Command((*base, "-f", *(start if cursor else ("-n", "0")))))
    begun = False
    try:
        while line := await channel.readline():
            text = line.rstrip(b"\n")
            begun = begun or _FIRST.match(text) is not None
            if begun and not text.startswith(b"-- "):
                yield text.decode("utf-8", "replace")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                ended = await channel.wait()
                complaint = ended.stderr.decode("utf-8", "replace").strip()
        raise NodeError(machine.name, f"journalctl ended: {complaint or 'no message'}")
    finally:
        await channel.close()


async def _by_sudo(
    machine: Machine, unit: str, lines: int, follow: bool
) -> AsyncGenerator[str, None]:
    """The same with `sudo -n` before it, for a user that the journal's groups do not hold."""
    last, followed = (Command(("sudo", "-n", *command.argv)) for command in permitted(unit))
    done = await machine.run(last)
    if done.status != 0:
        raise NodeError(
            machine.name,
            f"the journal of {unit} may not be read",
            "add the user there to the group: sudo usermod -aG systemd-journal USER",
        )
    if not follow:
        entries = [line for line in done.stdout.splitlines() if not line.startswith(b"-- ")]
        for line in entries[-lines:] if lines else []:
            yield line.decode("utf-8", "replace")
        return
    # journalctl -f begins with the last entries, so that nothing is lost between two commands.
    count = sum(not line.startswith(b"-- ") for line in done.stdout.splitlines())
    channel = await machine.open(followed)
    try:
        skip = max(count - lines, 0)
        while line := await channel.readline():
            text = line.rstrip(b"\n")
            if text.startswith(b"-- "):
                continue
            if skip:
                skip -= 1
            else:
                yield text.decode("utf-8", "replace")
        raise NodeError(machine.name, "journalctl ended")
    finally:
        await channel.close()

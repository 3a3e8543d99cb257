"""Whether the balancer reaches a member by the very address that its file has for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from importlib import resources

from llamatop.errors import LlamatopError, NodeError
from llamatop.model.plan import Command
from llamatop.transport.base import Completed, Machine

from .failure import StepFailed

_NOT_YET = ("502", "503", "504")
_PAUSE_SECONDS = 0.25
_ASK_SECONDS = 10.0


def question(address: str) -> Command:
    """The command that asks; it needs no right."""
    source = (resources.files(__package__) / "onnode" / "reach.py").read_text()
    return Command(("python3", "-c", source, address))


async def reached(
    machine: Machine, addresses: Iterable[str], seconds: float, progress: Callable[[str], None]
) -> None:
    """Wait until every address answers HTTP with something else than 502, 503 or 504.

    A worker may be well on its node while the tunnel to it is not. Raises StepFailed with the
    last reason after `seconds`.
    """
    began = time.monotonic()
    for address in dict.fromkeys(addresses):
        while (why := await _fault(machine, address)) is not None:
            spent = time.monotonic() - began
            if spent > seconds:
                raise StepFailed(f"{machine.name} does not reach it at {address}: {why}")
            progress(f"{machine.name} does not reach {address} yet ({why}), {spent:.0f} s")
            await asyncio.sleep(_PAUSE_SECONDS)


async def cut_off(machine: Machine, address: str) -> str | None:
    """Why nobody answers HTTP at the address, asked once; None where somebody does.

    Raises LlamatopError where it could not be asked, which says nothing of the member.
    """
    done = await machine.run(question(address), timeout_seconds=_ASK_SECONDS)
    why = _words(done)
    if done.status not in (0, 1):
        raise NodeError(machine.name, f"it cannot be asked whether {address} answers: {why}")
    return why if done.status else None


async def _fault(machine: Machine, address: str) -> str | None:
    try:
        done = await machine.run(question(address), timeout_seconds=_ASK_SECONDS)
    except LlamatopError as error:
        return str(error)
    status = done.stdout.decode("ascii", "replace").strip()
    if done.status == 0:
        return f"HTTP {status}" if status in _NOT_YET else None
    return _words(done)


def _words(done: Completed) -> str:
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return words[-1] if words else f"status {done.status}"

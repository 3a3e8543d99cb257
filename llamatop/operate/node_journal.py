"""What a plan does, told in the journals of the nodes it does it on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from llamatop.errors import LlamatopError
from llamatop.model.plan import Command, StepResult
from llamatop.model.text import plain

from .live import Fleet

_SECONDS = 5.0
_MOST_TEXT = 800


class NodeJournal:
    """Lines under the name `llamatop`, one after another on each node.

    Same as `logger -t llamatop`, which needs no right. A node that cannot be told stops nothing:
    the audit log here has it all.
    """

    def __init__(self, machines: Fleet, who: str, identity: str | None, title: str) -> None:
        self._machines = machines
        self._before = f"{who}, plan {identity or 'without a log'}: {title}"
        self._last: dict[str, asyncio.Task[None]] = {}

    def say(self, nodes: Iterable[str], text: str) -> None:
        """Tell the nodes, in the background."""
        for node in dict.fromkeys(nodes):
            last = self._last.get(node)
            self._last[node] = asyncio.create_task(self._send(node, text, last))

    def step(self, result: StepResult) -> None:
        """How a step ended, on a node that was told of the plan.

        A change of membership is told by the program on the balancer.
        """
        step = result.step
        begun = step.node in self._last
        if not begun or (step.kind == "membership" and result.state == "done"):
            return
        why = f": {result.error}" if result.error else ""
        text = f"step {result.number} ({step.title}) {result.state} after {result.seconds:.1f} s"
        self.say([step.node], text + why)

    async def close(self) -> None:
        """Wait a little until all is told."""
        if self._last:
            await asyncio.wait(self._last.values(), timeout=_SECONDS)
        for task in self._last.values():
            task.cancel()

    async def _send(self, node: str, text: str, last: asyncio.Task[None] | None) -> None:
        if last is not None:
            await asyncio.wait({last})
        line = plain(f"{self._before}: {text}")[:_MOST_TEXT]
        command = Command(("logger", "-t", "llamatop", "-p", "user.notice", "--", line))
        with contextlib.suppress(LlamatopError):
            await self._machines.machine(node).run(command, timeout_seconds=_SECONDS)

"""What changing a cluster needs of the parts below: a source that can be asked to look again."""

from __future__ import annotations

from typing import Protocol

from llamatop.collect.source import Source
from llamatop.errors import Unreachable
from llamatop.model.cluster import Event
from llamatop.model.observed import NodeSnapshot
from llamatop.model.plan import Command, Plan
from llamatop.transport.base import Completed, Machine


class LiveSource(Source, Protocol):
    """A Source that reads a node at once when asked, and takes events for its panel."""

    async def refresh(self, node: str) -> NodeSnapshot:
        """A snapshot of the node taken after the call, which `latest` then holds as well.

        Raises NodeError where the node does not answer.
        """

    def announce(self, event: Event) -> None:
        """Put an event into the snapshots to come."""

    def expect(self, plan: Plan | None) -> None:
        """What this plan brings about is no alarm; None when it has ended."""


class Fleet(Protocol):
    """The machines of a cluster by name."""

    def machine(self, node_name: str) -> Machine:
        """The way to the node; raises NodeError where it has no ssh."""


async def ask(machine: Machine, command: Command) -> Completed:
    """Run a command that only reads, once more where the connection was cut under it."""
    try:
        return await machine.run(command)
    except Unreachable:
        return await machine.run(command)

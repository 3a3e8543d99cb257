"""Keeps the faults that are on in step with the file that says which are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .faults import FAULTS
from .switches import Switches

if TYPE_CHECKING:
    from .embedded import EmbeddedCluster

LOOK_SECONDS = 0.2
# By --fault they come after a while of health, so that one sees what they change.
LATER_SECONDS = 6.0
LATER = ("dead-node", "partition")

_log = logging.getLogger(__name__)


class Trouble:
    """The faults of one cluster; `struck` is what each that is on has for a victim."""

    def __init__(self, cluster: EmbeddedCluster, switches: Switches) -> None:
        self.cluster = cluster
        self.switches = switches
        self.struck: dict[str, Any] = {}
        self._seen: object = None

    def possible(self) -> list[str]:
        """The kinds that this cluster has a victim for."""
        return [kind for kind, fault in FAULTS.items() if fault.victims(self.cluster)]

    def begin(self, kinds: tuple[str, ...]) -> None:
        """Write the file, with `kinds` on from the start."""
        self.switches.write(self.possible(), [kind for kind in kinds if kind not in LATER])

    async def follow(self, kinds: tuple[str, ...]) -> None:
        """Strike and heal as the file says, for ever; some of the first `kinds` a little later."""
        later = [kind for kind in kinds if kind in LATER]
        begun = asyncio.get_running_loop().time()
        while True:
            if later and asyncio.get_running_loop().time() - begun >= LATER_SECONDS:
                for kind in later:
                    # somebody may have removed the file
                    with contextlib.suppress(OSError):
                        self.switches.turn(kind)
                later = []
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Do what a change of the file asks for; one that fails is logged, and the others done."""
        try:
            status = self.switches.path.stat()
        except OSError:
            return
        mark = (status.st_mtime_ns, status.st_ino, status.st_size)
        if mark == self._seen:
            return
        self._seen = mark
        wanted = {switch.kind for switch in self.switches.listed() if switch.on}
        for kind in [kind for kind in self.struck if kind not in wanted]:
            await _carry_out(kind, FAULTS[kind].heal(self.cluster, self.struck.pop(kind)))
        # Nodes last: what strikes a worker is to be seen.
        order = [kind for kind in reversed(FAULTS) if kind in wanted and kind not in self.struck]
        for kind in order:
            victims = list(FAULTS[kind].victims(self.cluster))
            if victims:
                self.struck[kind] = victim = self._pick(victims)
                await _carry_out(kind, FAULTS[kind].strike(self.cluster, victim))

    def _pick(self, victims: list[Any]) -> Any:
        """The likeliest that nothing has struck yet, or whose machine at least still runs."""
        taken = list(self.struck.values())

        def spoiled(victim: Any) -> int:
            if any(victim is one for one in taken):
                return 2
            machine = getattr(victim, "machine", victim)
            return int(any(machine is one for one in taken) or not machine.reachable)

        return min(victims, key=spoiled)


async def _carry_out(kind: str, work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001 - no fault may end those that come after it
        _log.exception("the fault %s could not be brought on or taken back whole", kind)

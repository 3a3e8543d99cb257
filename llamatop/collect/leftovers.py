"""Members that a plan took out and left so: by whom, when, and which worker it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamatop.model.cluster import MemberView
from llamatop.model.observed import BalancerSample


@dataclass(frozen=True, slots=True)
class Leftover:
    """One member still down; `worker` is None where it is not certain who it is."""

    member: tuple[str, str]
    worker: str | None
    who: str
    what: str
    minutes: int
    plan: str

    def __str__(self) -> str:
        upstream, address = self.member
        name = self.worker or f"{address} of {upstream}"
        return (
            f"{name} was left drained by {self.who or 'somebody'} {ago(self.minutes)}"
            f" ({self.what}): llamatop recover puts it back"
        )


def find(sample: BalancerSample | None, members: Sequence[MemberView]) -> tuple[Leftover, ...]:
    """What plans that are over left drained, as far as it still is.

    A `drain` or `stop` that came to its end is no leftover, nor is what was put back since.
    """
    down = {(m.upstream, m.address): m for m in members if m.state in ("down", "draining")}
    found = []
    for one in sample.left if sample is not None else ():
        member = (one.upstream, one.address)
        if member in down:
            worker = down[member].worker
            found.append(Leftover(member, worker, one.who, one.what, one.minutes, one.plan))
    return tuple(found)


def ago(minutes: int) -> str:
    """Minutes in words: "12 min ago"."""
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"

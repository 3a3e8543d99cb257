"""Members that a plan or auto-drain took out and left so: by whom, when, and which worker it is."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llamatop.model.cluster import MemberView
from llamatop.model.observed import BalancerSample

_REASON = "(auto-drain: "


class Leftover(Struct, frozen=True):
    """One member still down; `worker` is None where it is not certain who it is.

    `auto`, `own` and `times` are as in `LeftDrained`.
    """

    member: tuple[str, str]
    worker: str | None
    who: str
    what: str
    minutes: int
    plan: str
    auto: bool = False
    own: bool = True
    times: int = 1

    def __str__(self) -> str:
        mend = ", or auto-drain once it is well" if self.auto and self.own else ""
        return f"{self.name} {self.story}: llamatop recover puts it back{mend}"

    @property
    def name(self) -> str:
        """The worker, else its server line."""
        upstream, address = self.member
        return self.worker or f"{address} of {upstream}"

    @property
    def story(self) -> str:
        """What became of it, by whom, when and why, as half a sentence."""
        who = self.who or "somebody"
        if not self.auto:
            return f"was left drained by {who} {ago(self.minutes)} ({self.what})"
        _, _, why = self.what.partition(_REASON)
        why = why.removesuffix(")") or self.what
        return f"was taken out by auto-drain of {who} {ago(self.minutes)}: {why}"


def find(sample: BalancerSample | None, members: Sequence[MemberView]) -> tuple[Leftover, ...]:
    """What plans that are over left drained, as far as it still is, and what auto-drain took out.

    A `drain` or `stop` that came to its end is no leftover, nor is what was put back since.
    """
    if sample is None or not sample.left:
        return ()
    down = {(m.upstream, m.address): m for m in members if m.state in ("down", "draining")}
    found = []
    for one in sample.left:
        member = (one.upstream, one.address)
        if member in down:
            found.append(
                Leftover(
                    member,
                    down[member].worker,
                    one.who,
                    one.what,
                    one.minutes,
                    one.plan,
                    one.auto,
                    one.own,
                    one.times,
                )
            )
    return tuple(found)


def ago(minutes: int) -> str:
    """Minutes in words: "12 min ago"."""
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"

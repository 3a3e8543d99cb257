"""How nginx spreads requests over the members of one upstream."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from .nginx_files import Member


class Spread:
    """The members of an upstream, whose turn it is first.

    With `least_conn` the fewest open requests count, else (round robin) the fewest ever given,
    both by weight.
    """

    def __init__(self, members: Sequence[Member], least_conn: bool) -> None:
        self.members = members
        self.least_conn = least_conn
        self._held: dict[str, int] = {}
        self._turn = 0
        self._latest: dict[str, int] = {}
        self._order: list[tuple[float, int, Member]] = []
        for member in members:
            self._held[member.address] = 0
            self._queue(member)
        self._named = {member.address: member for member in members}

    def _queue(self, member: Member) -> None:
        """Put it in line as it stands now; what was there of it before is void."""
        self._turn += 1
        self._latest[member.address] = self._turn
        score = self._held[member.address] / member.weight
        heapq.heappush(self._order, (score, self._turn, member))

    def take(self, failed: dict[str, float], now: float) -> Member | None:
        """The member that gets the next request; `failed` says until when some get none."""
        chosen: Member | None = None
        passed: list[tuple[float, int, Member]] = []
        spare: Member | None = None
        while self._order and chosen is None:
            entry = heapq.heappop(self._order)
            member = entry[2]
            if self._latest[member.address] != entry[1]:
                continue
            if member.down or failed.get(member.address, 0.0) >= now:
                passed.append(entry)
            elif member.backup:
                spare = spare or member
                passed.append(entry)
            else:
                chosen = member
        for entry in passed:
            heapq.heappush(self._order, entry)
        chosen = chosen or spare
        if chosen is not None:
            self._held[chosen.address] += 1
            self._queue(chosen)
        return chosen

    def give_back(self, address: str) -> None:
        """One of its requests is over."""
        if self.least_conn:
            self._held[address] -= 1
            self._queue(self._named[address])

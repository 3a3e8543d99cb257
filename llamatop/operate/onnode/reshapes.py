"""Which units take the place of which: written down before a plan begins, read when it was cut."""

from __future__ import annotations

import os
import time
from typing import Any

from llamatop.probe import drains as records

from . import drains
from .running import Failed

_MOST_TEXT = 200


def begin(about: dict[str, Any], reshapings: list[dict[str, Any]]) -> None:
    """Write it down; raises Failed where another plan is at these units, or left them so."""
    wanted = {unit for one in reshapings for unit in _units(one)}
    for other in found(time.time()):
        theirs = {unit for one in other["reshapings"] for unit in _units(one)}
        if other["plan"] == about["plan"] or not wanted & theirs:
            continue
        what = "%s by %s, begun %d min ago" % (other["what"], other["who"], other["minutes"])
        if other["over"] and other["own"]:
            text = "%s, was cut off: llamatop recover first" % what
        elif other["over"]:
            text = "%s, was cut off, and only its user has it put right: see %s" % (
                what,
                other["record"],
            )
        else:
            text = "locked by %s: it has not ended yet" % what
        raise Failed("lock", text)
    drains.note(dict(about, reshapings=reshapings), "reshape")


def found(now: float) -> list[dict[str, Any]]:
    """The plans that did not say that they ended; `over` says that they did not go on either.

    `own` are those in the record of root or of this user: another's word is never obeyed.
    """
    lines = [line for uid in records.users() for line in records.read(uid)]
    heard: dict[str, float] = {}
    ended = set()
    begun = {}
    mine = os.geteuid()
    for line in sorted(lines, key=lambda line: line[records.ORDER]):
        heard[line["plan"]] = line["at"]
        if line["event"] == "ended":
            ended.add(line["plan"])
        elif line["event"] == "reshape" and _valid(line.get("reshapings")):
            begun[line["plan"], line[records.OWNER]] = line
    return [
        {
            "plan": plan,
            "who": str(line.get("who"))[:_MOST_TEXT],
            "what": str(line.get("what"))[:_MOST_TEXT],
            "minutes": max(int((now - line["at"]) // 60), 0),
            "over": not 0 <= now - heard[plan] < records.LEASE_SECONDS,
            "own": owner in (0, mine),
            "record": records.path(owner),
            "reshapings": line["reshapings"],
        }
        for (plan, owner), line in begun.items()
        if plan not in ended
    ]


def _units(one: dict[str, Any]) -> list[str]:
    return [unit for which in ("news", "olds") for unit, _, _ in one[which]]


def _valid(reshapings: Any) -> bool:
    return isinstance(reshapings, list) and all(
        isinstance(one, dict)
        and all(
            isinstance(one.get(which), list) and all(_is_unit(unit) for unit in one[which])
            for which in ("news", "olds")
        )
        for one in reshapings
    )


def _is_unit(one: Any) -> bool:
    if not isinstance(one, list) or len(one) != 3:
        return False
    name, digest, enabled = one
    words = isinstance(name, str) and isinstance(digest, str) and isinstance(enabled, bool)
    return words and name.endswith(".service") and "/" not in name

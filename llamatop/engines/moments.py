"""Moments as servers write them, and what a counter gained over the last seconds."""

from __future__ import annotations

import calendar
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?:[Zz]|([+-])(\d\d):(\d\d))$"
)
_HTTP_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def rfc3339(written: Any) -> float | None:
    """Unix seconds of `2026-11-21T14:00:00.5+01:00`, None for anything else."""
    found = _RFC_3339.match(written) if isinstance(written, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (year and 1 <= month <= 12 and 1 <= day <= 31):
        return None
    moment = calendar.timegm((year, month, day, hour, minute, second)) + float(found[7] or 0)
    offset = 3600 * int(found[9]) + 60 * int(found[10]) if found[8] else 0
    return moment + (offset if found[8] == "-" else -offset)


def http_date(written: Any) -> float | None:
    """Unix seconds of a Date header, None for anything else."""
    found = _HTTP_DATE.match(written) if isinstance(written, str) else None
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[place]) for place in (1, 3, 4, 5, 6))
    if not (year and 1 <= day <= 31):
        return None
    return float(calendar.timegm((year, _MONTHS.index(found[2]) + 1, day, hour, minute, second)))


def gained(reads: List[Any], at: float, counts: List[float], seconds: float) -> List[float] | None:
    """What each count gained over the last `seconds`, or over as much as `reads` remembers.

    `reads` is the caller's to keep between calls. None before the second read, and after a count
    went down: its process is new.
    """
    if reads and any(now < reads[-1][1][place] for place, now in enumerate(counts)):
        del reads[:]
    reads.append((at, counts))
    while len(reads) > 2 and reads[1][0] <= at - seconds:
        del reads[0]
    if len(reads) < 2:
        return None
    return [now - reads[0][1][place] for place, now in enumerate(counts)]

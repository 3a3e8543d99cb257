"""Numbers out of Prometheus text, with the step in which each can be printed."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from re import Match
    from typing import Dict, Tuple

_LABEL = re.compile(rb'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)")

_SIGNIFICANT_DIGITS = 6
_LARGEST = 2.0**63


def values(body: bytes, wanted: Iterable[bytes]) -> Dict[bytes, Tuple[float, float]]:
    """The sum over all label sets of each metric in `wanted`, with the largest step seen."""
    found: Dict[bytes, Tuple[float, float]] = {}
    for name, _, number, printed in rows(body, wanted):
        before = found.get(name)
        width = step(printed)
        if before is None:
            found[name] = (number, width)
        else:
            found[name] = (before[0] + number, max(before[1], width))
    return found


def rows(
    body: bytes, wanted: Iterable[bytes]
) -> Generator[Tuple[bytes, bytes, float, bytes], None, None]:
    """(name, what stands in the braces, number, as printed) of each line of the metrics `wanted`.

    Lines that are not `NAME[{LABELS}] VALUE [TIME]` are skipped, as are values that no count or
    share can have: negative, not finite, or from 2^63. It searches instead of reading every line:
    a vLLM prints a thousand of which a dozen matter.
    """
    body = b"\n" + body
    for name in dict.fromkeys(wanted):
        key = b"\n" + name
        at = body.find(key)
        while at >= 0:
            begin = at + len(key)
            end = body.find(b"\n", begin)
            end = len(body) if end < 0 else end
            mark = body[begin : begin + 1]
            if mark in (b"{", b" "):
                brace = body.rfind(b"}", begin, end) if mark == b"{" else begin
                printed = body[brace + 1 : end].split(None, 1) if brace >= 0 else []
                number = _credible(printed[0]) if printed else None
                if number is not None:
                    yield name, body[begin + 1 : brace], number, printed[0]
            at = body.find(key, end)


def labels(inside: bytes) -> Dict[str, str]:
    """The labels by name out of what stands in the braces; undecodable bytes are replaced."""
    return {
        name.decode("ascii"): _ESCAPE.sub(_unescaped, value).decode("utf-8", "replace")
        for name, value in _LABEL.findall(inside)
    }


def _unescaped(found: Match[bytes]) -> bytes:
    return b"\n" if found[1] == b"n" else found[1]


def _credible(printed: bytes) -> float | None:
    try:
        number = float(printed)
    except ValueError:
        return None
    return number if 0 <= number < _LARGEST else None


def step(printed: bytes) -> float:
    """The distance between two counts that C's `%g` can print: 3.00001e+08 has a step of 1000.

    At least 1, as tokens are whole. A longer mantissa than six digits makes it finer.
    """
    mantissa, exponent, power = printed.lower().partition(b"e")
    if not exponent:
        return 1.0
    try:
        magnitude = int(power)
    except ValueError:
        return 1.0
    digits = max(_SIGNIFICANT_DIGITS, sum(mantissa.count(b"%d" % digit) for digit in range(10)))
    return float(10 ** max(0, min(magnitude - digits + 1, 300)))

"""Numbers out of Prometheus text, with the step in which each can be printed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Dict, Tuple

_SIGNIFICANT_DIGITS = 6
_LARGEST = 2.0**63


def values(body: bytes, wanted: Iterable[bytes]) -> Dict[bytes, Tuple[float, float]]:
    """The sum over all label sets of each metric in `wanted`, with the largest step seen.

    Lines that are not `NAME[{LABELS}] VALUE [TIME]` are skipped, as are values that no count or
    share can have: negative, not finite, or from 2^63.
    """
    found: Dict[bytes, Tuple[float, float]] = {}
    names = frozenset(wanted)
    for line in body.split(b"\n"):
        if line[:1] == b"#":
            continue
        name, _, rest = line.partition(b" ")
        brace = name.find(b"{")
        if brace >= 0:
            name = name[:brace]
            rest = line[line.rfind(b"}") + 1 :]
        if name not in names:
            continue
        printed = rest.split(None, 1)
        if not printed:
            continue
        number = _credible(printed[0])
        if number is None:
            continue
        before = found.get(name)
        width = step(printed[0])
        if before is None:
            found[name] = (number, width)
        else:
            found[name] = (before[0] + number, max(before[1], width))
    return found


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

"""Ranges of numbers in a cluster file: `node[01-64]` stands for node01, node02, … node64.

As Slurm, pdsh and ClusterShell write them: `[1-3,7]`, zeroes in front kept, several in one text
each with each, the last the fastest. Brackets that hold anything else are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, product
from math import prod
from typing import Final

from .checks import Fault, shown

MOST: Final = 1024
_RANGE: Final = re.compile(r"\[([0-9,-]+)\]")
_COLON: Final = re.compile(r"\[([0-9]+):([0-9]+)\]")
_PART: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class RangeError(ValueError):
    """What is wrong with a range, as a sentence's end."""


def expand(text: str) -> tuple[str, ...]:
    """All that the text stands for, itself alone where it has no range; raises RangeError."""
    colon = _COLON.search(text)
    if colon:
        raise RangeError(f"holds {colon[0]}: write the range as [{colon[1]}-{colon[2]}]")
    pieces = _RANGE.split(text)
    if len(pieces) == 1:
        return (text,)
    numbers = [_numbers(inside) for inside in pieces[1::2]]
    count = prod(map(len, numbers))
    if count > MOST:
        raise RangeError(f"stands for {count:,}, more than {MOST:,} ({shown(text)})")
    return tuple(
        "".join(chain.from_iterable(zip(pieces[::2], (*chosen, ""), strict=True)))
        for chosen in product(*numbers)
    )


def each(fault: Fault) -> Fault:
    """The complaint about a text with ranges: about them, else the first of what it stands for."""

    def complaint(value: str) -> str | None:
        try:
            return next(filter(None, map(fault, expand(value))), None)
        except RangeError as error:
            return str(error)

    return complaint


def _numbers(inside: str) -> Sequence[str]:
    found: list[str] = []
    for part in inside.split(","):
        ends = _PART.fullmatch(part)
        if ends is None:
            raise RangeError(f"holds [{inside}], which is no range: write it as [01-64] or [1-3,7]")
        found += _counted(ends[1], ends[2] or ends[1], inside)
    return found


def _counted(first: str, last: str, inside: str) -> Iterator[str]:
    low, high = int(first), int(last)
    if low > high:
        raise RangeError(f"holds [{inside}], which counts down: write the lower number first")
    if high - low >= MOST:
        raise RangeError(f"holds [{inside}], which is more than {MOST:,}")
    return (f"{number:0{len(first)}}" for number in range(low, high + 1))

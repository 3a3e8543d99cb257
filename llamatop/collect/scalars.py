"""Untyped values to plain ones: text, whole numbers, numbers, true or false."""

from __future__ import annotations

from collections.abc import Callable

# No count, size or time of a cluster comes near it; sums and products of these stay finite.
LARGEST = 2**63

Complaints = list[str]
Reader = Callable[[object, str, Complaints], object]


class WrongError(Exception):
    """A value that cannot be read as its type; `args[0]` says what was expected."""


def string(value: object, path: str, complaints: Complaints) -> object:
    """Text; raises WrongError."""
    if isinstance(value, str):
        return value
    raise WrongError(f"expected text, got {shown(value)}")


def integer(value: object, path: str, complaints: Complaints) -> object:
    """A whole number, also where it is written 3.0 or, as keys are, "3"; raises WrongError."""
    if isinstance(value, bool):
        raise WrongError(f"expected a whole number, got {shown(value)}")
    if isinstance(value, int) and abs(value) < LARGEST:
        return value
    if isinstance(value, float) and abs(value) < LARGEST and value.is_integer():
        return int(value)
    # The key of a slot is its id.
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    raise WrongError(f"expected a whole number, got {shown(value)}")


def number(value: object, path: str, complaints: Complaints) -> object:
    """A number as a float; raises WrongError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST:
        found = float(value)
        # the next to the largest whole number is the largest as a float
        if abs(found) != LARGEST:
            return found
    raise WrongError(f"expected a number, got {shown(value)}")


def boolean(value: object, path: str, complaints: Complaints) -> object:
    """True or false; raises WrongError."""
    if isinstance(value, bool):
        return value
    raise WrongError(f"expected true or false, got {shown(value)}")


def numeric(key: str) -> tuple[int, int, str]:
    """What sorts keys that are numbers by their value, before all others."""
    if key.isascii() and key.isdecimal() and len(key) < 16:
        return (0, int(key), "")
    return (1, 0, key)


def shown(value: object) -> str:
    """The value for a complaint, short whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) < 40 else value[:39] + "…")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # A whole number of thousands of digits cannot even be printed.
    return repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"

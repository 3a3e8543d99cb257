"""The lines on the wire: each a JSON merge patch (RFC 7396) on the last document."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    Document = Dict[str, Any]


_PLAIN = frozenset((int, str, bool, type(None)))


def diff(after: Document, before: Document) -> Document:
    """The smallest merge patch that makes `after` of `before`; {} where nothing changed.

    Neither document may hold None inside an object: on the wire null deletes.
    """
    patch: Document = {}
    for key, value in after.items():
        old = before.get(key)
        if value is old:
            continue
        if isinstance(value, dict):
            if isinstance(old, dict):
                inner = diff(value, old)
                if inner:
                    patch[key] = inner
                continue
        elif value == old and type(value) is type(old):
            continue
        patch[key] = value
    for key in before:
        if key not in after:
            patch[key] = None
    return patch


def line(patch: Document) -> bytes:
    """One line of ASCII; what is no valid text (names in any bytes) stays escaped surrogates."""
    return json.dumps(patch, separators=(",", ":")).encode("ascii") + b"\n"


def clean(value: Any) -> Any:
    """`value` as the wire carries it: no None in objects, only numbers that JSON has."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {
            str(key): cleaned
            for key, cleaned in ((key, clean(item)) for key, item in value.items())
            if cleaned is not None
        }
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return round(value, 3)
    return value

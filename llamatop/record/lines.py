"""The lines of a recording: a header, then frames; each a JSON object.

A frame has the time (`at`), the tick, its number (`frame`), the `events` since the frame before,
and the document: the `whole` of it every few minutes, else a `patch` on the one before (a JSON
merge patch, RFC 7396, in which a key that begins with + adds to a count).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from llamatop.errors import UsageError
from llamatop.record.document import Document

# A reader of one major version reads all its minor ones: they only add fields.
FORMAT_MAJOR = 1
FORMAT_MINOR = 0
COUNTS = frozenset({"generated_tokens", "generation_tokens_total", "memory_used_bytes"})


class RecordingError(UsageError):
    """A file that is no recording, or one that this llamatop cannot read; names the file."""


def line(found: Document) -> bytes:
    """One line of JSON; names in any bytes stay escaped surrogates."""
    return json.dumps(found, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, like 2026-11-21T02:00:00.000Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def difference(after: Document, before: Document) -> Document:
    """What makes `after` of `before`; {} where nothing changed. Neither may hold None."""
    patch: Document = {}
    for key, value in after.items():
        old = before.get(key)
        if value is old:
            continue
        kind = type(value)
        if kind is dict:
            if type(old) is dict:
                inner = difference(value, old)
                if inner:
                    patch[key] = inner
                continue
        elif value == old and kind is type(old):
            continue
        elif kind is int and key in COUNTS and type(old) is int:
            patch[f"+{key}"] = value - old
            continue
        patch[key] = value
    if len(before) + len(patch) > len(after) or before.keys() - after.keys():
        for key in before:
            if key not in after:
                patch[key] = None
    return patch


def patched(document: Any, patch: Any) -> Any:
    """The document after the patch; what it does not touch is the same object in both."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key[:1] == "+":
            old = merged.get(key[1:])
            if isinstance(old, int) and isinstance(value, int):
                merged[key[1:]] = old + value
        else:
            merged[key] = patched(merged.get(key), value) if isinstance(value, dict) else value
    return merged

"""JSON merge patches (RFC 7396), as a probe's lines are."""

from __future__ import annotations


def apply(document: object, patch: object) -> object:
    """The document after the patch; the one given stays as it was.

    What the patch does not touch is the same object in both, so that `is` tells what changed.
    """
    if not isinstance(patch, dict):
        return patch
    merged: dict[object, object] = document.copy() if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = apply(merged.get(key), value)
        else:
            merged[key] = value
    return merged

"""Figures as short words: unknown is –, never 0."""

from __future__ import annotations

UNKNOWN = "–"
_SUFFIXES = ("", "k", "M", "G", "T", "P")


def rate(value: float | None) -> str:
    """Tokens per second with as many digits as are worth reading."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """A percentage without decimals."""
    return UNKNOWN if value is None else f"{value:.0f} %"


def count(value: float | None) -> str:
    """A whole number, thousands as k, M, G."""
    if value is None:
        return UNKNOWN
    step = 0
    while abs(value) >= 10_000 and step < len(_SUFFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.0f}{_SUFFIXES[step]}" if step == 0 else f"{value:.4g}{_SUFFIXES[step]}"


def share(used: float | None, total: float | None) -> str:
    """`used/total`, each unknown for itself."""
    return f"{count(used)}/{count(total)}"


def gibibytes(used: int | None, total: int | None) -> str:
    """Memory as used/total in GiB."""
    words = [UNKNOWN if value is None else f"{value / 2**30:.1f}" for value in (used, total)]
    return f"{words[0]}/{words[1]} GiB"


def measure(value: float | None, unit: str) -> str:
    """A rounded figure with its unit."""
    return UNKNOWN if value is None else f"{value:.0f} {unit}"


def duration(seconds: float | None) -> str:
    """An age or uptime in its largest two units."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"

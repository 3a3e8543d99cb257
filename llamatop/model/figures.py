"""Numbers as short words: 1.9k, 54.1, 18.2G, 2h07m; unknown is an en dash."""

from __future__ import annotations

UNKNOWN = "–"


def number(value: float | None) -> str:
    """At most five characters: 0, 7.4, 54.1, 214, 1.9k, 12.3k, 1.2M; `–` for unknown."""
    if value is None or value != value:
        return UNKNOWN
    size = abs(value)
    if size >= 999_500_000:
        return f"{value / 1e9:.1f}G"
    if size >= 999_500:
        return f"{value / 1e6:.1f}M" if size < 99_950_000 else f"{value / 1e6:.0f}M"
    if size >= 999.5:
        return f"{value / 1e3:.1f}k" if size < 99_950 else f"{value / 1e3:.0f}k"
    if size >= 99.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}"


def count(value: int | None) -> str:
    """A whole number, shortened above 9999; `–` for unknown."""
    if value is None:
        return UNKNOWN
    return str(value) if abs(value) < 10_000 else number(value)


def share(used: int | None, total: int | None) -> str:
    """`1/2`, each part unknown for itself."""
    return f"{count(used)}/{count(total)}"


def percent(value: float | None) -> str:
    """`96 %`, `–` for unknown."""
    return UNKNOWN if value is None else f"{value:.0f} %"


def gibibytes(used: int | None, total: int | None) -> str:
    """`18.2/24.0G`, `174/192G`, in 2^30 bytes, from 1000 on in 2^40; `–` for unknown."""
    if used is None and total is None:
        return UNKNOWN
    large = max(used or 0, total or 0) >= 1000 * 2**30
    unit, letter = (2**40, "T") if large else (2**30, "G")
    places = 0 if max(used or 0, total or 0) >= 100 * unit else 1
    left = UNKNOWN if used is None else f"{used / unit:.{places}f}"
    right = UNKNOWN if total is None else f"{total / unit:.{places}f}{letter}"
    return f"{left}/{right}"


def watts(used: float | None, limit: float | None) -> str:
    """`172/250W`, `172W` or from ten thousand on `81.2kW` without a limit, `–` for unknown."""
    if used is None:
        return UNKNOWN
    if limit is None and used >= 10_000:
        return f"{used / 1000:.1f}kW"
    return f"{used:.0f}W" if limit is None else f"{used:.0f}/{limit:.0f}W"


def degrees(value: float | None) -> str:
    """`68°`, `–` for unknown."""
    return UNKNOWN if value is None else f"{value:.0f}°"


def duration(seconds: float | None) -> str:
    """At most six characters: 9s, 4m05s, 2h07m, 3d04h, 412d; `–` for unknown."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02}h" if days < 100 else f"{days}d"


def bytes_short(size: int | None) -> str:
    """`4.7G`, `810M`, in powers of 1024; `–` for unknown."""
    if size is None:
        return UNKNOWN
    if size >= 0.95 * 2**30:
        return f"{size / 2**30:.1f}G"
    return f"{size / 2**20:.0f}M"

"""Files of /proc and /sys, or of the trees that HOST_PROC, HOST_SYS and HOST_ROOT name.

A process may be gone at any moment.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Tuple

ROOT = os.environ.get("HOST_PROC") or "/proc"
SYS = os.environ.get("HOST_SYS") or "/sys"
# before the absolute path of a file that a process was started with
FILES = os.environ.get("HOST_ROOT") or ""
_MOST_BYTES = 2**20


def read(path: str, most: int = _MOST_BYTES) -> bytes:
    """The first `most` bytes of the file at `path`; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts = []
        left = most
        while left > 0:
            part = os.read(descriptor, min(left, 65536))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def try_read(name: str, most: int = _MOST_BYTES) -> bytes | None:
    """`read` of a file under ROOT, None where it is missing or closed to this user."""
    try:
        return read(ROOT + "/" + name, most)
    except OSError:
        return None


def sys_line(name: str) -> str | None:
    """The one line of a file under SYS, None where it is missing or closed to this user."""
    try:
        return text(read(SYS + "/" + name)).strip()
    except OSError:
        return None


def text(data: bytes) -> str:
    """Bytes of any kind as text that JSON can carry; undecodable bytes become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def pids() -> List[int]:
    """Every process there is now; [] where /proc cannot be listed."""
    try:
        return [int(name) for name in os.listdir(ROOT) if name.isdigit()]
    except OSError:
        return []


def stat(pid: int) -> Tuple[int, int, int] | None:
    """(parent pid, start time, processor time), times in clock ticks; None for one that is gone."""
    data = try_read("%d/stat" % pid)
    if data is None:
        return None
    # the name in parentheses may hold anything, parentheses too
    fields = data[data.rfind(b")") + 2 :].split()
    try:
        return int(fields[1]), int(fields[19]), int(fields[11]) + int(fields[12])
    except (IndexError, ValueError):
        return None


def age(start: int | None) -> float | None:
    """Seconds since `start`, in clock ticks since boot; None where one of the two is unknown."""
    try:
        up = float((try_read("uptime") or b"").split()[0])
    except (IndexError, ValueError):
        return None
    return None if start is None else up - start / os.sysconf("SC_CLK_TCK")


def command_line(pid: int) -> List[str]:
    """The words a process was started with; [] for kernel threads and those that are gone.

    A process that gave itself a title (nginx) has that as its only word.
    """
    data = try_read("%d/cmdline" % pid)
    if not data:
        return []
    return [text(word) for word in data.rstrip(b"\0").split(b"\0")]


def environment(pid: int) -> Dict[str, str] | None:
    """The environment a process was started with, None where this user may not read it."""
    data = try_read("%d/environ" % pid)
    if data is None:
        return None
    found: Dict[str, str] = {}
    for item in data.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals:
            found[text(name)] = text(value)
    return found


def unit(pid: int) -> str | None:
    """The systemd unit whose cgroup holds the process; None where it is in none."""
    data = try_read("%d/cgroup" % pid)
    if data is None:
        return None
    best = None
    for line in data.splitlines():
        parts = line.split(b":", 2)
        if len(parts) == 3 and parts[1] in (b"name=systemd", b""):
            for name in reversed(parts[2].split(b"/")):
                if name.endswith(b".service"):
                    best = text(name)
                    break
    return best


def nested(pid: int) -> bool:
    """Whether the process lives in a container with process numbers of its own."""
    return len((status_field(pid, b"NSpid") or "").split()) > 1


def status_field(pid: int, name: bytes) -> str | None:
    """One line of /proc/PID/status without its name; None where there is none."""
    data = try_read("%d/status" % pid) or b""
    _, found, rest = data.partition(b"\n" + name + b":")
    return text(rest.split(b"\n", 1)[0].strip()) if found else None

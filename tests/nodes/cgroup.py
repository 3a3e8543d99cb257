"""A control group of its own for each machine: without it all their systemds share `/payload`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def _hierarchies() -> list[Path]:
    """systemd's own hierarchies: `name=systemd` and unified side by side, or unified alone."""
    mixed = [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    found = [place for place in mixed if (place / "cgroup.procs").exists()]
    return found or [Path("/sys/fs/cgroup")]


def directories(name: str) -> list[Path]:
    """Where the group of machine `name` is or would be, one directory a hierarchy."""
    return [hierarchy / f"llamatop-tests.{name}" for hierarchy in _hierarchies()]


def named(prefix: str) -> set[str]:
    """The machines, by name, that have a group here and whose name starts with `prefix`."""
    return {
        group.name.removeprefix("llamatop-tests.")
        for hierarchy in _hierarchies()
        for group in hierarchy.glob(f"llamatop-tests.{prefix}*")
    }


def make(name: str) -> list[Path]:
    """Make the group and return the `cgroup.procs` files that a process joins it by."""
    found = directories(name)
    for group in found:
        group.mkdir(exist_ok=True)
    return [group / "cgroup.procs" for group in found]


def pids(name: str) -> Iterator[int]:
    """Every process in the group and below, as this machine numbers them."""
    seen: set[int] = set()
    for group in directories(name):
        # os.walk passes over directories that go while it looks, as those of a boot do.
        for inner, _, _ in os.walk(group):
            with suppress(OSError):
                listing = Path(inner, "cgroup.procs").read_text()
                seen.update(int(line) for line in listing.split())
    yield from sorted(seen - {0})


def kill(name: str, timeout: float = 10.0) -> None:
    """Kill every process of the group, wait until none is left and remove the group."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        left = list(pids(name))
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.02)
    for group in directories(name):
        for inner, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(inner).rmdir()

"""What a killed run left behind: found, and removed where no live run owns it.

`python -m tests.nodes.leftovers` removes it by hand; every run does it first.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.nodes import cgroup, mounts

LOCKS = Path("/run/lock/llamatop-tests")
STATE = Path("/var/tmp/llamatop-tests")
_NSPAWN = Path("/run/systemd/nspawn")


@contextmanager
def owned(number: int) -> Iterator[bool]:
    """Own run `number` while inside; false where a live run does. A dead holder's lock is free."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / str(number)).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _links() -> list[str]:
    """Network interfaces here, by name."""
    return [link.name for link in Path("/sys/class/net").iterdir()]


def _belongs(link: str, number: int) -> bool:
    return re.fullmatch(rf"lt{number}b?|(vb|ve|vx)-lt{number}-.*", link) is not None


def traces(number: int) -> list[str]:
    """What exists of run `number`, a phrase each; empty where there is nothing."""
    found = [f"process {pid}" for name in cgroup.named(f"lt{number}-") for pid in cgroup.pids(name)]
    found += [f"cgroup {name}" for name in cgroup.named(f"lt{number}-")]
    found += [f"mount {place}" for place in mounts.below(STATE / str(number))]
    found += [f"interface {link}" for link in _links() if _belongs(link, number)]
    if (STATE / str(number)).exists():
        found.append(f"directory {STATE / str(number)}")
    return found


def numbers() -> set[int]:
    """Every run that has left a trace, live ones too."""
    texts = [place.name for place in STATE.glob("[0-9]*")]
    texts += [match[1] for link in _links() if (match := re.search(r"\blt(\d+)(b|-|$)", link))]
    texts += [match[1] for name in cgroup.named("lt") if (match := re.match(r"lt(\d+)-", name))]
    return {int(text) for text in texts}


def remove(number: int) -> None:
    """Undo all of run `number`; the caller owns it."""
    for name in cgroup.named(f"lt{number}-"):
        cgroup.kill(name)
    mounts.undo(STATE / str(number))
    # An interface goes with the last process of its namespace, a moment after it.
    for link in sorted(_links()):
        if _belongs(link, number):
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
    subprocess.run(
        ["ip", "route", "del", "unreachable", f"198.19.{number}.0/24"],
        check=False,
        capture_output=True,
    )
    for record in _NSPAWN.glob(f"*/lt{number}-*"):
        with suppress(OSError):
            record.rmdir() if record.is_dir() else record.unlink()
    place = STATE / str(number)
    for _ in range(50):
        shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            return
        time.sleep(0.1)


def remove_dead() -> list[str]:
    """Remove what dead runs left, never a live one's, and return what it was."""
    gone: list[str] = []
    for number in sorted(numbers()):
        with owned(number) as mine:
            if mine:
                gone += traces(number)
                remove(number)
    return gone


if __name__ == "__main__":
    print("\n".join(remove_dead()) or "nothing left behind", file=sys.stdout)

"""What is slow to make, made once: outside the checkout and shared by all checkouts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.nodes import mounts

_UNUSED_AFTER = 14 * 24 * 3600.0


def root() -> Path:
    """The cache directory: `LLAMATOP_TEST_CACHE`, else `/var/cache/llamatop-tests`.

    `XDG_CACHE_HOME/llamatop-tests` comes between the two where that variable is set.
    """
    named = os.environ.get("LLAMATOP_TEST_CACHE")
    if named:
        return Path(named).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return Path(xdg) / "llamatop-tests" if xdg else Path("/var/cache/llamatop-tests")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it; a dead holder's lock is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """The directory that `build` fills, built now unless one of the same `recipe` is there.

    Built beside its place and renamed when whole, so that a killed build leaves nothing that could
    be taken for a whole one. Versions unused for two weeks go when a new one is built.
    """
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    place = root() / f"{name}-{key}"
    if place.is_dir():
        os.utime(place)
        return place
    with locked(root() / f"{name}.lock"):
        if not place.is_dir():
            _forget_halves(name)
            half = root() / f".half-{name}-{os.getpid()}"
            half.mkdir(mode=0o755)
            try:
                build(half)
                half.rename(place)
            finally:
                _forget_halves(name)
            _forget_unused(name, place)
    return place


def _forget_halves(name: str) -> None:
    # The name is of this process: what a killed builder started may still write into its own.
    for half in root().glob(f".half-{name}-[0-9]*"):
        mounts.undo(half)
        shutil.rmtree(half, ignore_errors=True)


def _forget_unused(name: str, keep: Path) -> None:
    for other in root().glob(f"{name}-????????????"):
        if other != keep and time.time() - other.stat().st_mtime > _UNUSED_AFTER:
            shutil.rmtree(other, ignore_errors=True)

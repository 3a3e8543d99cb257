"""A cluster file put in its place: whole or not at all, never over another one unasked."""

from __future__ import annotations

import os
from pathlib import Path

from llamatop import files
from llamatop.errors import Refused, UsageError


def check(path: Path, overwrite: bool = False) -> None:
    """Raise Refused where something is in the way, UsageError where no file can be."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory: name the file in it")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise Refused(f"{path} is there already")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no directory {path.absolute().parent}")


def place(path: Path, text: str, overwrite: bool = False) -> None:
    """Write it beside its place, then move it there; raises as `check` does."""
    check(path, overwrite)
    target = path.resolve() if overwrite else path
    try:
        mask = os.umask(0)
        os.umask(mask)
        with files.beside(target, text, 0o666 & ~mask) as fresh:
            if overwrite:
                fresh.replace(target)
            else:
                _place_first(target, fresh, text)
    except FileExistsError:
        raise Refused(f"{path} is there already") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _place_first(target: Path, fresh: Path, text: str) -> None:
    """Raises FileExistsError where somebody was quicker, which a rename does not."""
    try:
        target.hardlink_to(fresh)
    except FileExistsError:
        raise
    except OSError:
        # FAT and some network mounts have no hard links.
        with target.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                target.unlink(missing_ok=True)
                raise

"""Files put in their place whole or not at all: written beside it, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600


def replace(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Put the text there, over what was there; raises OSError, and then leaves that as it was."""
    with beside(path, text, mode) as fresh:
        fresh.replace(path)


@contextmanager
def beside(path: Path, text: str, mode: int = PRIVATE) -> Iterator[Path]:
    """A file of this text in the same folder, for the time in which it is put in its place.

    What has not been renamed is gone at the end. Raises OSError.
    """
    import tempfile  # 5 ms, which who only reads need not wait for.

    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.chmod(mode)
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)

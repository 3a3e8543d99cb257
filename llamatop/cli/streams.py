"""The three standard streams, made fit to be used whatever llamatop was started with."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from errno import EBADF, EDQUOT, EFBIG, EIO, ENOSPC

_LONGEST_LINE = 2000
_OUTPUT_ERRORS = (EBADF, EDQUOT, EFBIG, EIO, ENOSPC)


def prepare(as_json: bool) -> None:
    """Give each closed stream /dev/null, and let no character be one that cannot be printed.

    A closed descriptor would otherwise become the next socket's, which then gets what is printed.
    JSON is UTF-8 in any locale (RFC 8259, 8.1); other text shows `?` for what the locale lacks.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one: those below it are open by now.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole run
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
    if isinstance(sys.stdout, io.TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8", errors="replace")
        else:
            sys.stdout.reconfigure(errors="replace")


def stdout_fault(error: Exception) -> str | None:
    """Why standard output takes no more, None where `error` is something else.

    What fails on a file or a socket names it or has another number.
    """
    if isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT_ERRORS:
        return os.strerror(error.errno)
    return None


def abandon_stdout() -> None:
    """Let what is still held for a standard output that takes no more go to /dev/null at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def complain(line: str) -> None:
    """One line on standard error, cut where it is endless; nothing where that takes no more."""
    from llamatop.model.text import plain

    cut = line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
    with contextlib.suppress(OSError):
        print(f"llamatop: {plain(cut)}", file=sys.stderr)

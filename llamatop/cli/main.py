"""The command `llamatop`: finds the subcommand, runs it, and turns what it raises into a status."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llamatop import __version__
from llamatop.cli import streams
from llamatop.cli.parser import parse
from llamatop.cli.start import INTERRUPTED
from llamatop.errors import LlamatopError

if TYPE_CHECKING:
    from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status that CLI.md defines."""
    if argv is None and "_ARGCOMPLETE" in os.environ:
        # A shell asks how its line may go on.
        from llamatop.cli.completion import answer

        return answer()
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    streams.prepare(as_json="--json" in words)
    try:
        try:
            args = parse(words)
        finally:
            gc.enable()
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except LlamatopError as error:
        if debug:
            _print_traceback()
        for line in str(error).splitlines() or [type(error).__name__]:
            streams.complain(line)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left; what Python flushes at exit must not complain about it.
        streams.abandon_stdout()
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: nobody should see a traceback
        if debug:
            _print_traceback()
        reason = streams.stdout_fault(error)
        if reason is not None:
            streams.abandon_stdout()
            streams.complain(f"standard output takes no more: {reason}")
            return LlamatopError.exit_code
        path = _write_details(words)
        where = f"details are in {path}" if path else "run it again with --debug for details"
        kind = type(error).__name__
        streams.complain(f"this is a fault of llamatop itself ({kind}: {error}); {where}")
        return 70


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _write_details(words: Sequence[str]) -> Path | None:
    """Write the traceback into the user's state directory; None where that cannot be written."""
    import shlex
    import time
    import traceback
    from pathlib import Path

    from platformdirs import user_state_dir

    try:
        directory = Path(user_state_dir("llamatop"))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / time.strftime("fault-%Y%m%d-%H%M%S.txt", time.gmtime())
        path.write_text(
            f"llamatop {__version__}, Python {sys.version}\n"
            f"llamatop {shlex.join(words)}\n\n{traceback.format_exc()}",
            encoding="utf-8",
        )
    except OSError:
        return None
    return path


if __name__ == "__main__":
    sys.exit(main())

"""Where the command starts: an interrupt ends it quietly before anything else is loaded."""

import gc
import os
import signal
from types import FrameType

INTERRUPTED = 130


def leave(number: int, frame: FrameType | None) -> None:
    """Exit with 130 at once: right as long as there is nothing to put back.

    An exception instead would come up in whatever is being imported, which may print and drop it.
    """
    os._exit(INTERRUPTED)


def main() -> int:
    """Run the command; returns its exit status."""
    # Of what is imported nothing is garbage, and a seventh of the time would go into looking.
    gc.disable()
    # Where a shell started this in the background, an interrupt stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    import atexit

    # At Python's own end the status stands already.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from llamatop.cli.main import main as command

    return command()

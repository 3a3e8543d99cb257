"""`!`: the terminal handed to a shell on a node, and taken back."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from llamatop.collect.source import Source
from llamatop.errors import LlamatopError

if TYPE_CHECKING:
    from llamatop.app.app import LlamatopApp


async def run_shell(app: LlamatopApp, source: Source, node: str) -> None:
    """Run the node's shell in the foreground; reading goes on behind it, painting waits."""
    try:
        argv = source.shell_argv(node)
    except LlamatopError as error:
        app.say(str(error), "error")
        return
    # Ctrl-C belongs to the shell: a handler here, not SIG_IGN, which the shell would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with app.batch_update(), app.suspend():
            print(f"\nllamatop: a shell on {node}; exit comes back\n", flush=True)  # noqa: T201
            process = await asyncio.create_subprocess_exec(*argv)
            status = await process.wait()
    except SuspendNotSupported:
        app.say("this terminal cannot be handed over", "error")
        return
    except OSError as error:
        app.say(f"cannot run {argv[0]}: {error.strerror}; is it installed?", "error")
        return
    finally:
        signal.signal(signal.SIGINT, before)
    app.refresh(layout=True)
    if status == 255:
        app.say(f"ssh to {node} ended with status 255: its own message says why", "warning")

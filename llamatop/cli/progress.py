"""A plan's progress as lines: one a step, its last line rewritten on a terminal."""

from __future__ import annotations

import contextlib
import sys

from llamatop.model.plan import StepResult
from llamatop.model.text import plain

_MARKS = {"running": "…", "done": "✓", "failed": "✗", "undone": "↶", "skipped": "-"}


class Progress:
    """Shows results on stderr; without a terminal only how each step ended.

    A plan goes on where stderr takes no more (a lost terminal, a full disk).
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._open = False

    def show(self, result: StepResult) -> None:
        """One result; a running one replaces the line before it."""
        running = result.state == "running"
        if self._quiet or (running and not self._live):
            return
        detail = result.error or result.progress
        text = f"{_MARKS[result.state]} {result.number}. {result.step.title}"
        if detail and result.state != "done":
            text += f": {detail}"
        if not running:
            text += f" ({result.seconds:.1f} s)"
        self._write(plain(text), running)

    def note(self, text: str) -> None:
        """A line of its own."""
        self.end()
        self._write(text, False)

    def end(self) -> None:
        """Leave the cursor on a fresh line."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                sys.stderr.write("\n")

    def _write(self, text: str, running: bool) -> None:
        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            text = text[:width] if running else text
            text = f"\r\x1b[2K{text}" if self._open or running else text
        self._open = running and self._live
        with contextlib.suppress(OSError):
            sys.stderr.write(text if self._open else f"{text}\n")
            sys.stderr.flush()

"""A plan's progress as lines: one a step, its last line rewritten on a terminal."""

from __future__ import annotations

import contextlib
import sys

from llamatop.model.plan import Plan, StepResult
from llamatop.model.text import plain
from llamatop.operate.pace import seconds_left

_MARKS = {"running": "…", "done": "✓", "failed": "✗", "undone": "↶", "skipped": "-"}


class Progress:
    """Shows results on stderr; without a terminal only how each step ended.

    A plan goes on where stderr takes no more (a lost terminal, a full disk).
    """

    def __init__(self, plan: Plan, quiet: bool = False) -> None:
        self._plan = plan
        self._results: dict[int, StepResult] = {}
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._open = False

    def show(self, result: StepResult) -> None:
        """One result; a running one replaces the line before it."""
        running = result.state == "running"
        self._results[result.number] = result
        if self._quiet or (running and not self._live):
            return
        detail = result.error or result.progress
        text = f"{_MARKS[result.state]} {self._left(result)}{result.number}. {result.step.title}"
        if detail:
            text += f": {detail}"
        if not running:
            text += f" ({result.seconds:.1f} s)"
        self._write(plain(text), running)

    def _left(self, result: StepResult) -> str:
        """How far a plan over several groups of workers is, while it runs."""
        batch = result.step.batch
        if result.state != "running" or self._plan.batches < 2 or batch == 0:
            return ""
        left = seconds_left(self._plan, self._results.values())
        return f"[{batch}/{self._plan.batches}{'' if left is None else f', {left:.0f} s left'}] "

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

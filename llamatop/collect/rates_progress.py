"""Tokens of one llama-server in one interval, and of several intervals together."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from llamatop.model.observed import Slot


class Progress(Struct, frozen=True):
    """Tokens since the read before: expected, those that are certain, and how far off it may be.

    `longest_ended` is about how long the longest task was that ended, 0 where none did. `in_flight`
    counts generation tokens of tasks that run now; `prompt` is of what was seen.
    """

    generated: float
    certain: int
    spread: float
    longest_ended: float
    in_flight: int
    prompt: int

    def then(self, later: Progress) -> Progress:
        """Of this interval and the one after it; what ended in this one is counted by now."""
        return replace(
            later,
            generated=self.generated + later.generated,
            certain=self.certain + later.certain,
            spread=self.spread + later.spread,
            prompt=self.prompt + later.prompt,
        )


def prompt_gain(before: Slot | None, now: Slot) -> int:
    """Prompt tokens that one slot processed between two reads, as far as they show."""
    # a released slot shows what it processed, or 0 in newer builds
    done = now.prompt_tokens_processed
    if done is None or done <= 0:
        return 0
    if before is None:
        return done if now.busy else 0
    if before.task_id is None or before.task_id != now.task_id:
        return done
    known = before.prompt_tokens_processed
    if known is not None and known > 0:
        done -= known
    return done if done > 0 else 0

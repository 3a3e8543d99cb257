"""Tokens of one llama-server in one interval, and of several intervals together."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Progress:
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

"""Units that would not come back, or do not run what their files say."""

from __future__ import annotations

from llamatop.advise.finding import Rule

RULES: tuple[Rule, ...] = ()

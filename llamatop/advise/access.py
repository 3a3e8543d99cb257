"""Access to the nodes: host keys, and rights that plans would need."""

from __future__ import annotations

from llamatop.advise.finding import Rule

RULES: tuple[Rule, ...] = ()

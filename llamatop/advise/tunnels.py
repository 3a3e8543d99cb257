"""Tunnels that members of the upstream depend on, and members that lead astray."""

from __future__ import annotations

from llamatop.advise.finding import Rule

RULES: tuple[Rule, ...] = ()

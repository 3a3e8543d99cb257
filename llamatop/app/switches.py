"""Faults that can be brought on by hand, where the cluster is one to practise on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Switch(Protocol):
    """One kind of fault: its name, one clause about it, and whether it is on."""

    @property
    def kind(self) -> str:
        """Its name."""

    @property
    def about(self) -> str:
        """What goes wrong."""

    @property
    def on(self) -> bool:
        """Whether it does now."""


class Switches(Protocol):
    """All kinds that this cluster can have."""

    def listed(self) -> Sequence[Switch]:
        """As they are now; none where they cannot be told."""

    def turn(self, kind: str) -> None:
        """Bring it on, or take it back; raises OSError where nobody hears."""

"""What can go wrong with the test machines themselves."""

from __future__ import annotations


class NodesError(Exception):
    """The machines cannot be made or do not behave: a sentence that names what and the mend."""

"""What every test shares: how hypothesis looks for cases, and that interrupts are heard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# These machines are noisy: a slow example is no finding. In CI the same cases every time, so that
# a change is judged by what it changed; by hand others at every run.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A shell that starts the tests in the background has them, and all that they start, ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """An app that ends together with its loop leaves that loop's handler; none outlives a test."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)

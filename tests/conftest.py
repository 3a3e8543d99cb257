"""What every test shares: how hypothesis looks for cases."""

from __future__ import annotations

import os

from hypothesis import settings

# These machines are noisy: a slow example is no finding. In CI the same cases every time, so that
# a change is judged by what it changed; by hand others at every run.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

"""Why a step stopped."""

from __future__ import annotations

from llamatop.errors import LlamatopError


class StepFailed(LlamatopError):
    """One step did not do what it should; the text says what is there instead."""

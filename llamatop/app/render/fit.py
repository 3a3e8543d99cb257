"""What a worker's model takes, and whether one card has it: for the panel and for a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.figures import UNKNOWN, bytes_short, count
from llamatop.model.gguf import ModelFile
from llamatop.model.text import plain

if TYPE_CHECKING:
    from llamatop.advise.fit import Fit


def facts(
    worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]
) -> list[tuple[str, str, str]]:
    """Label, value and role for the panel; nothing where the model's file is not known of."""
    found = _fit(worker, file, cards)
    if found is None:
        return []
    if found.missing:
        return [("fit", f"{UNKNOWN}, not known: {plain('; '.join(found.missing))}", "dim")]
    from llamatop.advise.fitting import summed

    listed = [("memory", summed(found), "text"), ("fit", _verdict(found), _role(found))]
    if found.split_bytes is not None:
        listed.append(("split", _cost(found), "dim"))
    return listed


def note(worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]) -> str | None:
    """Whether one card would do, and what it would take there; None where that is not known."""
    found = _fit(worker, file, cards)
    if found is None or found.missing:
        return None
    from llamatop.advise.fitting import whole

    return f"{_verdict(found)} · {whole(found)}"


def _fit(worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]) -> Fit | None:
    if file is None:
        return None
    # The first screen does without the rules.
    from llamatop.advise.fit import fit

    return fit(worker, file, cards)


def _verdict(found: Fit) -> str:
    """`fits on one card · 9 slots of 8192 would fit`."""
    if found.fits is None:
        return f"{UNKNOWN}, the memory of its cards is not known"
    demand = found.demand
    slots, context = found.slots_fit(), found.context_fits()
    card = "one card" if found.cards > 1 else "its card"
    said = f"fits on {card}" if found.fits else f"does not fit on {card}"
    if demand is None or slots is None:
        return said
    if slots:
        many = "1 slot" if slots == 1 else f"{slots} slots"
        return f"{said} · {many} of {count(demand.context_tokens)} would fit"
    if context:
        return f"{said} · its slots would with {count(context)} tokens each"
    return f"{said}, with any context"


def _role(found: Fit) -> str:
    """A split that is not needed stands out."""
    return "event.warning" if found.fits and found.cards > 1 else "text"


def _cost(found: Fit) -> str:
    turns = ""
    if found.share_percent is not None:
        turns = f"each card busy {found.share_percent:.0f} % at most with one stream, "
    return f"{turns}{bytes_short(found.split_bytes)} more memory than on one card"

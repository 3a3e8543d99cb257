"""What a worker's model takes, and whether one card has it: for the panel and for a split."""

from __future__ import annotations

from collections.abc import Sequence

from llamatop.advise.fit import Fit, fit
from llamatop.advise.fitting import summed, whole
from llamatop.advise.memory import Demand
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.figures import UNKNOWN, bytes_short
from llamatop.model.gguf import ModelFile
from llamatop.model.text import plain


def facts(
    worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]
) -> list[tuple[str, str, str]]:
    """Label, value and role for the panel; nothing where the model's file is not known of."""
    found = fit(worker, file, cards) if file is not None else None
    if found is None:
        return []
    if found.missing:
        return [("fit", f"{UNKNOWN}, not known: {plain('; '.join(found.missing))}", "dim")]
    listed = [("fit", _verdict(found), _role(found)), ("memory", summed(found), "text")]
    if found.split_bytes is not None:
        listed.append(("split", _cost(found), "dim"))
    return listed


def note(worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]) -> str | None:
    """Whether one card would do, and what it would take there; None where that is not known."""
    found = fit(worker, file, cards) if file is not None else None
    if found is None or found.missing:
        return None
    return f"fits {_verdict(found)} · {whole(found)}"


def _verdict(found: Fit) -> str:
    """`one card: yes, 4 slots × 8192 (room for 7)`."""
    card = "one card" if found.cards > 1 else "its card"
    if found.fits is None or found.demand is None:
        return f"{card}: {UNKNOWN}, its memory is not known"
    said = f"{card}: {'yes' if found.fits else 'no'}, {_asked(found.demand)}"
    slots, context = found.slots_fit(), found.context_fits()
    if slots:
        each = f" with {found.demand.context_tokens} each" if _shares(found.demand) else ""
        return f"{said} (room for {slots}{each})"
    if context:
        return f"{said} (room for {context} tokens each)"
    return f"{said} (no room with any context)"


def _asked(demand: Demand) -> str:
    slots = "1 slot" if demand.slots == 1 else f"{demand.slots} slots"
    how = "sharing" if _shares(demand) else "×"
    return f"{slots} {how} {demand.context_tokens}"


def _shares(demand: Demand) -> bool:
    return demand.unified and demand.slots > 1


def _role(found: Fit) -> str:
    """A split that is not needed stands out."""
    return "event.warning" if found.fits and found.cards > 1 else "text"


def _cost(found: Fit) -> str:
    turns = ""
    if found.share_percent is not None:
        turns = f"each card busy {found.share_percent:.0f} % at most with one stream, "
    return f"{turns}{bytes_short(found.split_bytes)} more memory than on one card"

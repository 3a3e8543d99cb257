"""Whether a node's cards hold the workers that come beside the ones that leave. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamatop.advise.fit import fit
from llamatop.errors import Refused
from llamatop.model.figures import bytes_short

from .planning import Draft
from .targets import Target


def room(draft: Draft, olds: Sequence[Target]) -> bool:
    """Whether the cards surely hold old and new together; raises Refused where never the new.

    A split process takes no more of each card than a whole one does.
    """
    cards = [gpu for gpu in draft.snapshot.gpus if gpu.node == olds[0].node]
    held: dict[str, int] = {}
    for old in olds:
        pids = {str(pid) for pid in (old.worker.sample.pids if old.worker else None) or ()}
        for gpu in cards:
            for pid, used in (gpu.sample.processes or {}).items():
                if pid in pids and used is None:
                    return False
                if pid in pids and used is not None:
                    held[gpu.sample.uuid] = held.get(gpu.sample.uuid, 0) + used
    if not held:
        return False
    need = _need(draft, olds[0], held) if draft.action == "unsplit" else max(held.values())
    enough = True
    for gpu in cards:
        mine = held.get(gpu.sample.uuid)
        total, used = gpu.sample.memory_total_bytes, gpu.sample.memory_used_bytes
        if mine is None:
            continue
        if total is None or used is None:
            enough = False
            continue
        if need > total - max(0, used - mine):
            text = (
                f"{', '.join(old.name for old in olds)} takes {bytes_short(need)} on its cards, and"
                f" GPU {gpu.sample.index} has {bytes_short(total - max(0, used - mine))} for it"
            )
            if not draft.force:
                raise Refused(f"{text}: one process would not fit; --force tries it all the same")
            draft.warn(text)
        enough = enough and need * 1.05 <= total - used
    return enough


def _need(draft: Draft, old: Target, held: Mapping[str, int]) -> int:
    """What one process on one card takes: by the model's file where that was read, else in all."""
    assert old.worker is not None
    model = draft.snapshot.node(old.node).snapshot.models.get(old.worker.sample.launch.model or "")
    cards = [gpu for gpu in draft.snapshot.gpus if gpu.node == old.node]
    found = fit(old.worker, model, cards)
    if found is None or found.alone is None:
        return sum(held.values())
    return found.alone.total + found.spare_bytes

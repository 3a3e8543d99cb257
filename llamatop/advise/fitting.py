"""A model on several cards that one card would hold: its cards wait for each other in vain."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.figures import bytes_short

from .finding import Finding, Mend, Rule
from .fit import Fit, Fitter
from .memory import Part


def split(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A split that is not needed."""
    fitter = Fitter(snapshot)
    for worker in snapshot.workers:
        if len(worker.gpus or ()) < 2 or not worker.sample.pids:
            continue
        found = fitter.fit(worker)
        if found is None or not found.fits or found.demand is None:
            continue
        on = " + ".join(map(str, worker.gpus or ()))
        slots = f"{found.demand.slots} slots of {found.demand.context_tokens}"
        yield Finding(
            "split-fits-one-card",
            "warning",
            worker.name,
            f"split over GPU {on}; on one, with its {slots}: {summed(found)}",
            f"its cards {_wait(found)}; a worker on each would compute at the same time",
            f"one worker a card, all upstream: llamatop unsplit {worker.name}",
            Mend("unsplit", (worker.name,)),
        )


def _wait(found: Fit) -> str:
    if found.share_percent is None:
        return "exchange a part of every layer"
    return f"take turns, each busy {found.share_percent:.0f} % at most with one stream"


def summed(found: Fit) -> str:
    """What its parts come to on one card: `weights 4.1G + KV 2.0G + compute 0.5G = 6.6G of 24.0G`.

    The overhead is among them where it is known.
    """
    part = found.alone or Part()
    terms = [
        ("weights", part.weights),
        ("KV", part.cache),
        ("compute", part.compute),
        ("overhead", found.overhead_bytes or 0),
    ]
    listed = " + ".join(f"{name} {bytes_short(size)}" for name, size in terms if size)
    return f"{listed} = {whole(found)}"


def whole(found: Fit) -> str:
    """`6.6G of 24.0G`, the overhead among it where it is known."""
    taken = (found.alone or Part()).total + (found.overhead_bytes or 0)
    return f"{bytes_short(taken)} of {bytes_short(found.room_bytes)}"


RULES: tuple[Rule, ...] = (split,)

"""What a worker's model takes and whether one card has it, as the JSON that scripts rely on."""

from __future__ import annotations

from llamatop.advise.fit import Fit


def to_object(fit: Fit | None) -> dict[str, object] | None:
    """The object `fit` of a worker; None for what has none: other engines, and the CPU.

    The sizes are of the whole of it on one card; `missing` names what is not known, all else is
    None then. It fits where weights, cache, compute buffers and `spare_bytes` (the overhead, or
    1 GiB where that is not known) are no more than `room_bytes`. `taken_bytes` is what it takes on
    all its cards as it is.
    """
    if fit is None:
        return None
    alone, demand, needs = fit.alone, fit.demand, fit.needs
    total = None if alone is None else alone.total + (fit.overhead_bytes or 0)
    taken = None if needs is None else needs.on_cards.total + (fit.overhead_bytes or 0) * fit.cards
    return {
        "missing": list(fit.missing),
        "weights_bytes": alone and alone.weights,
        "kv_cache_bytes": alone and alone.cache,
        "compute_bytes": alone and alone.compute,
        "overhead_bytes": fit.overhead_bytes,
        "spare_bytes": None if alone is None else fit.spare_bytes,
        "total_bytes": total,
        "gpu": fit.card,
        "room_bytes": fit.room_bytes,
        "fits_one_card": fit.fits,
        "slots": demand and demand.slots,
        "slot_context_tokens": demand and demand.context_tokens,
        "slots_would_fit": fit.slots_fit(),
        "slot_context_tokens_would_fit": fit.context_fits(),
        "cards": fit.cards or None,
        "taken_bytes": taken,
        "host_bytes": needs and needs.host.total,
        "busy_percent_at_most": None if fit.share_percent is None else round(fit.share_percent, 1),
        "split_bytes": fit.split_bytes,
    }

"""The object `fit` of a worker in the JSON: the screen's figures, null where unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamatop.advise.fit import MARGIN_BYTES
from llamatop.cli.render_json import to_line
from llamatop.model.cluster import GpuView, WorkerView
from tests.unit.advise.test_fitting import (
    FILE,
    GIGABYTE,
    OVERHEAD,
    card,
    cluster,
    judged,
    running,
    worker,
)


def told(view: WorkerView, cards: tuple[GpuView, ...], file: Any = FILE) -> dict[str, Any]:
    found = json.loads(to_line(cluster(view, cards, file)))
    fit: dict[str, Any] = found["nodes"][0]["workers"][0]["fit"]
    return fit


def test_a_split_tells_what_one_card_would_hold() -> None:
    fit, found = told(worker(), running()), judged(worker(), running())
    assert found.alone is not None
    assert found.needs is not None
    assert fit["missing"] == []
    assert (fit["fits_one_card"], fit["slots"], fit["slot_context_tokens"]) == (True, 4, 8192)
    assert fit["slots_would_fit"] == 44
    parts = ("weights_bytes", "kv_cache_bytes", "compute_bytes", "overhead_bytes")
    assert sum(fit[part] for part in parts) == fit["total_bytes"] == found.alone.total + OVERHEAD
    assert fit["spare_bytes"] == OVERHEAD
    assert (fit["cards"], fit["busy_percent_at_most"]) == (2, 50.0)
    assert fit["taken_bytes"] == found.needs.on_cards.total + 2 * OVERHEAD
    assert fit["split_bytes"] == fit["taken_bytes"] - fit["total_bytes"]


def test_what_is_not_known_is_null_with_its_reason() -> None:
    fit = told(worker(), running(), None)
    assert fit.pop("missing") == ["the header of its model's file"]
    assert set(fit.values()) == {None}
    hidden = told(worker(), (card(0), card(1)))
    assert hidden["overhead_bytes"] is None
    assert hidden["total_bytes"] is not None
    assert hidden["spare_bytes"] == MARGIN_BYTES


@pytest.mark.parametrize("total", [6, 7, 8])
def test_a_script_can_reckon_the_verdict(total: int) -> None:
    cards = (card(0, total * GIGABYTE), card(1, total * GIGABYTE))
    for fit in (told(worker(), cards), told(worker(), running(total * GIGABYTE))):
        parts = ("weights_bytes", "kv_cache_bytes", "compute_bytes", "spare_bytes")
        assert fit["fits_one_card"] == (sum(fit[part] for part in parts) <= fit["room_bytes"])


def test_a_worker_on_the_processor_has_none() -> None:
    assert told(worker(gpus=()), running()) is None

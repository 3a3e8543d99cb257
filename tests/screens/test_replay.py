"""A recording seen again: the same screens, its own keys, nothing to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from textual.pilot import Pilot

from llamatop.app.actions import KEYS
from llamatop.app.replay import ReplayApp
from llamatop.app.screens.seek import meant
from llamatop.cli.render_json import to_object
from llamatop.collect import resolve
from llamatop.collect.source import Position
from llamatop.model.declared import Cluster
from llamatop.record.player import Player
from tests.screens.stage import Stage, until_shown
from tests.unit.record import hour
from tests.unit.record.hour import Hour


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Hour]]:
    async def addresses(cluster: Cluster) -> dict[str, frozenset[str]]:
        return {node.name: resolve.names(node) for node in cluster.nodes}

    path = tmp_path_factory.mktemp("recording") / "hour.rec"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolve, "addresses", addresses)
        yield path, hour.record(path)

"""One faulty hour for all tests of recordings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llamatop.collect import resolve
from llamatop.model.declared import Cluster
from tests.unit.record import hour
from tests.unit.record.hour import Hour


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hour]:
    """The file and what was seen; in no time, and without asking any name server."""

    async def addresses(cluster: Cluster) -> AsyncGenerator[tuple[str, frozenset[str]], None]:
        for node in cluster.nodes:
            yield node.name, resolve.names(node)

    path = tmp_path_factory.mktemp("recording") / "hour.rec"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolve, "addresses", addresses)
        lived = hour.record(path)
    return path, lived

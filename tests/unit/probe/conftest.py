"""A node of files, and workers on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .node import FakeNode
from .server import Worker


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.fixture
def worker() -> Iterator[Worker]:
    server = Worker()
    yield server
    server.close()


@pytest.fixture
def other() -> Iterator[Worker]:
    server = Worker()
    yield server
    server.close()

"""A real nginx with files of its own, for the program that edits them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.nginx.conftest import nginx_binary
from tests.unit.operate.real_nginx import RealNginx

__all__ = ["nginx_binary"]


@pytest.fixture
def real(nginx_binary: str, tmp_path: Path) -> Iterator[RealNginx]:
    nginx = RealNginx(nginx_binary, tmp_path)
    nginx.start()
    yield nginx
    nginx.stop()

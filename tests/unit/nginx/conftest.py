"""A real nginx to compare with."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    return found

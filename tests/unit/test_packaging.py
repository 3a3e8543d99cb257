"""What an installation carries: themes and sample clusters, from a wheel and from a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASK = (
    "import llamatop, llamatop.resources as r; print(llamatop.__file__); "
    "print(*sorted(p.name for n in ('themes', 'sample_clusters') for p in r.folder(n).iterdir()))"
)


def ask(path: Path, cwd: Path) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        timeout=60,
    )
    where, names = done.stdout.splitlines()
    return where, set(names.split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = out.glob("*.whl")
    return built


def test_a_wheel_carries_themes_and_sample_clusters(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    where, names = ask(installed, tmp_path)
    assert where.startswith(str(installed))
    in_checkout = {
        path.name for folder in ("themes", "sample_clusters") for path in (ROOT / folder).iterdir()
    }
    assert names == in_checkout
    assert any(name.endswith(".toml") for name in names)


def test_a_wheel_declares_the_command_and_the_core_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(metadata).decode()
        assert "llamatop = llamatop.cli.start:main" in archive.read(entry).decode()
    for package in ("textual", "httpx", "nvidia-ml-py", "paramiko", "rich"):
        assert f"Requires-Dist: {package}" in text


def test_an_editable_install_finds_them_too(tmp_path: Path) -> None:
    where, names = ask(ROOT, tmp_path)
    assert where.startswith(str(ROOT))
    assert any(name.endswith(".toml") for name in names)

"""What an installation carries, from a wheel and from a checkout, and that a wheel alone runs."""

from __future__ import annotations

import contextlib
import email
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
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
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[1]


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


def test_a_wheel_carries_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "llamatop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    data = {
        f"llamatop/{path.relative_to(ROOT)}"
        for folder in ("themes", "sample_clusters")
        for path in (ROOT / folder).rglob("*")
    }
    about = {name for name in names if re.match(r"llamatop-[^/]+\.dist-info/", name)}
    assert names - about == code | data
    assert any(name.endswith("licenses/LICENSE") for name in about)


def test_an_sdist_carries_what_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "dev", "requirements.lock"} <= names
    assert "tests/unit/test_packaging.py" in names
    assert "llamatop/probe/bootstrap.py" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_a_wheel_declares_the_command_and_the_core_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(metadata).decode()
        assert "llamatop = llamatop.cli.start:main" in archive.read(entry).decode()
    told = email.message_from_string(text)
    needed = {re.split(r"[^\w-]", line)[0] for line in told.get_all("Requires-Dist", [])}
    assert {"textual", "httpx", "nvidia-ml-py", "paramiko", "rich", "argcomplete"} <= needed
    assert not needed & {"pytest", "jsonschema", "mypy"}
    assert told["License-Expression"] == "MIT"
    assert told["Requires-Python"] == ">=3.11"


def test_an_editable_install_finds_them_too(tmp_path: Path) -> None:
    where, names = ask(ROOT, tmp_path)
    assert where.startswith(str(ROOT))
    assert any(name.endswith(".toml") for name in names)


# --- installed for real ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has nothing but the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    # The versions that everything else is tested with, so that no release elsewhere fails this.
    lock = (ROOT / "requirements.lock").read_text()
    versions = home / "versions.txt"
    versions.write_text("\n".join(re.findall(r"^[\w.-]+==[^\s\\;]+(?: ;[^\\\n]+)?", lock, re.M)))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q"]
    done = subprocess.run(
        [*pip, "--no-compile", "-c", str(versions), str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return home / "bin" / "llamatop"


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, str]:
    """The environment of a person who has just come: an empty home, nothing of this checkout."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "TERM": "xterm-256color"}


@contextlib.contextmanager
def demo(command: Path, directory: Path, clean: dict[str, str]) -> Iterator[Path]:
    process = subprocess.Popen(
        [command, "demo", "--write", directory],
        cwd=directory.parent,
        env=clean,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "the demo is ready" in process.stdout.readline()
        yield directory / "cluster.toml"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment(
    installed: Path, tmp_path: Path, clean: dict[str, str]
) -> None:
    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [installed, *words],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    assert run("--version").startswith("llamatop ")
    assert json.loads(run("schema"))["title"] == "llamatop cluster file"
    for shell in ("bash", "zsh", "fish"):
        assert "llamatop" in run("completion", shell)
    with demo(installed, tmp_path / "demo", clean) as file:
        sample = json.loads(run("status", "--json", "-c", str(file)))
        assert sample["healthy"] is True
        assert sample["totals"]["generation_tokens_per_second"] > 0
        assert {gpu["name"] for node in sample["nodes"] for gpu in node["gpus"]}
        assert "nothing to do" in run("start", "node1/gpu0", "--dry-run", "-c", str(file))
    (kept,) = (tmp_path / ".cache" / "llamatop").glob("workers-*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "node2/split0" in kept.read_text()
    paint(installed, tmp_path, clean)


def paint(installed: Path, directory: Path, clean: dict[str, str]) -> None:
    """The dashboard over the demo, on a terminal, until it is quit."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execve(installed, [str(installed), "demo"], {**clean, "LINES": "24", "COLUMNS": "80"})
    said, end = b"", time.monotonic() + 90
    try:
        while b"split0" not in said:
            assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], said
            said += os.read(terminal, 65536)
        os.write(terminal, b"q")
        with contextlib.suppress(OSError):
            while os.read(terminal, 65536):
                pass
    finally:
        os.close(terminal)
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0

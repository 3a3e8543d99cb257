"""A dashboard whose terminal goes away without a signal, as when no process tells it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = 60.0


def dashboard(folder: Path, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """`llamatop` and the terminal it draws on, which no session calls its own."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llamatop.cli.main", *words],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "TERM": "xterm-256color"},
        # So nobody sends it SIGHUP.
        start_new_session=True,
    )
    os.close(inside)
    return process, terminal


@pytest.mark.slow
@pytest.mark.parametrize("words", [("-c", "cluster.toml"), ()], ids=["dashboard", "first-run"])
def test_it_ends_with_its_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "cluster.toml").write_text('[[node]]\nname = "here"\nssh = "local"\n')
    folder = tmp_path if words else tmp_path / "empty"
    folder.mkdir(exist_ok=True)
    process, terminal = dashboard(folder, *words)
    painted = b""
    while b"llamatop" not in painted:
        painted += os.read(terminal, 65536)
    os.close(terminal)
    began = time.monotonic()
    try:
        assert process.wait(SECONDS) == 130
    finally:
        process.kill()
    assert time.monotonic() - began < SECONDS


@pytest.mark.slow
def test_a_terminal_that_stands_still_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text('[[node]]\nname = "here"\nssh = "local"\n')
    process, terminal = dashboard(tmp_path, "--interval", "0.2", "--record", "rec")
    deadline = time.monotonic() + SECONDS
    try:
        # Nothing is read from the terminal, whose buffer the first picture fills.
        while ticks(tmp_path / "rec") < 60:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        painted = b""
        while b"\x1b[H" not in painted[-100_000:] and b"here" not in painted:
            painted += os.read(terminal, 65536)
        process.terminate()
        while select.select([terminal], [], [], 1.0)[0]:
            try:
                painted += os.read(terminal, 65536)
            except OSError:
                break
        assert process.wait(SECONDS) == 130
        # The terminal is given back as it was.
        assert b"\x1b[?1049l" in painted
    finally:
        process.kill()


def ticks(recording: Path) -> int:
    """How many are in the recording so far."""
    done = subprocess.run(
        [sys.executable, "-m", "llamatop.cli.main", "replay", str(recording), "--json"],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return len(done.stdout.splitlines())

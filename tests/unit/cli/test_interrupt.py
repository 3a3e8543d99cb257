"""Ctrl-C at any moment: 130 and not a word, or the normal end.

It holds from the first lines of `llamatop.cli.start` on; what Python itself does before (its own
start, `site`, the packages' .pth files) cannot be helped. So the tests wait for Python to say that
it has imported something after that module, which -X importtime does, and count from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamatop.cli.interrupt import undoing

START = "import sys; from llamatop.cli.start import main; sys.exit(main())"
TIMING = b"import time:"


def interrupted(words: list[str], seconds: float, directory: Path) -> tuple[int, list[bytes]]:
    """The exit status and what came on stderr, where SIGINT came so long after the start."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", START, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=directory,
        env={**os.environ, "XDG_CONFIG_HOME": str(directory)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"llamatop.cli.start" in line:
            break
    said = [process.stderr.readline()]
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    said += process.stderr.readlines()
    process.stderr.close()
    return process.wait(60), [line for line in said if not line.startswith(TIMING)]


def check(words: list[str], milliseconds: range, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text('[[node]]\nname = "a"\nurl = "http://127.0.0.1:9"\n')
    statuses = []
    for moment in milliseconds:
        status, said = interrupted(words, moment / 1000, tmp_path)
        assert not said or status != 130, b"".join(said)
        assert b"Traceback" not in b"".join(said)
        statuses.append(status)
    assert 130 in statuses
    assert set(statuses) <= {130, 0, 1, 3}


@pytest.mark.parametrize("words", [["--help"], ["status"]])
def test_an_interrupt_early_on_is_quiet(words: list[str], tmp_path: Path) -> None:
    check(words, range(0, 200, 40), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["status"], ["logs", "a/b"], ["drain", "a/b", "-y"]])
def test_an_interrupt_at_any_moment_is_quiet(words: list[str], tmp_path: Path) -> None:
    check(words, range(0, 200, 5), tmp_path)


def test_what_was_begun_is_undone_from_the_inside_out() -> None:
    undone: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        undoing(lambda: undone.append("outer")),
        undoing(lambda: undone.append("inner")),
    ):
        signal.raise_signal(signal.SIGINT)
    assert undone[:2] == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""Standard streams that are closed, full, or cannot hold every character."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamatop.cli.main import main
from llamatop.cli.progress import Progress
from llamatop.model.plan import Plan, Step, StepResult

pytestmark = pytest.mark.slow

LLAMATOP = f"{sys.executable} -m llamatop.cli.main"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line,
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )


# Nothing listens there: the status is 3 whatever the streams are.
STATUS = f"{LLAMATOP} status http://127.0.0.1:1"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_status(closed: str) -> None:
    done = shell(f"{STATUS} {closed}")
    assert done.returncode == 3
    assert "llamatop:" not in done.stderr


def test_a_full_disk_is_one_line() -> None:
    done = shell(f"{STATUS} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "llamatop: standard output takes no more: No space left on device\n"


def test_wrong_usage_is_2_where_nobody_can_be_told() -> None:
    assert shell(f"{LLAMATOP} status --interval 0 2>/dev/full").returncode == 2


def test_an_endless_name_does_not_make_an_endless_line() -> None:
    done = shell(f"{LLAMATOP} watch --count $(printf '9%.0s' $(seq 5000))")
    assert done.returncode == 2
    assert len(done.stderr) < 2100


def test_without_a_terminal_to_ask_on_nothing_is_done() -> None:
    done = shell(f"{LLAMATOP} stop a/b <&-")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1


def test_an_ascii_locale_gets_what_it_can_hold() -> None:
    done = shell(f"{STATUS}; {LLAMATOP} --help", PYTHONIOENCODING="ascii")
    assert done.stderr == ""
    assert "HOST?" in done.stdout


def test_json_is_utf_8_in_any_locale(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('name = "größe"\n[[node]]\nname = "n"\nurl = "http://127.0.0.1:1"\n')
    done = shell(f"{LLAMATOP} status --json -c {path}", PYTHONIOENCODING="ascii")
    assert '"cluster": "größe"' in done.stdout


class Lost(io.StringIO):
    """The terminal of a session that was cut."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_progress_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Lost())
    step = Step("wait-drained", "n", "wait until nothing runs on n/w")
    progress = Progress(Plan("drain", ("n/w",), (step,)))
    progress.show(StepResult(step, 1, "running", 0.1))
    progress.show(StepResult(step, 1, "done", 0.2))
    progress.note("stopping")
    progress.end()


def test_a_fault_elsewhere_is_not_taken_for_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("llamatop.cli.main.parse", fails)
    assert main(["status"]) == 70
    assert "a fault of llamatop itself" in capsys.readouterr().err

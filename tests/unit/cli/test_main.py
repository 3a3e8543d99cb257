"""The command line: where options may stand, what exit status comes, what is printed."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from llamatop.cli import main as module
from llamatop.cli.main import main
from llamatop.cli.parser import parse
from llamatop.errors import Refused, Unreachable, UsageError


@pytest.mark.parametrize(
    ("words", "command", "values"),
    [
        (["status", "--json"], "status", {"json": True}),
        (["-c", "x.toml", "status"], "status", {"cluster": Path("x.toml")}),
        (["status", "-c", "x.toml"], "status", {"cluster": Path("x.toml")}),
        (["--interval", "2", "watch", "--count", "3"], "watch", {"interval": 2.0, "count": 3}),
        (["-c", "status", "watch"], "watch", {"cluster": Path("status")}),
        (["--interval=2", "status", "h"], "status", {"interval": 2.0, "hosts": ["h"]}),
        (["status", "a", "--json", "b"], "status", {"hosts": ["a", "b"]}),
        (["roll"], "roll", {"workers": [], "at_once": 1, "keep": 1, "on_timeout": "undo"}),
        (
            ["roll", "n/*", "--at-once", "3", "--keep", "2", "--on-timeout", "wait"],
            "roll",
            {"workers": ["n/*"], "at_once": 3, "keep": 2, "on_timeout": "wait"},
        ),
        (["undo", "--dry-run"], "undo", {"workers": [], "dry_run": True}),
        (["logs", "n/w", "-f", "-n", "5"], "logs", {"worker": "n/w", "follow": True, "lines": 5}),
    ],
)
def test_options_stand_before_or_after(
    words: list[str], command: str, values: dict[str, object]
) -> None:
    args = parse(words)
    assert args.command == command
    assert {name: getattr(args, name) for name in values} == values


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ([], []),
        (["node1", "node2"], ["node1", "node2"]),
        (["--theme", "x", "node1", "--read-only", "node2"], ["node1", "node2"]),
        (["--", "status"], ["status"]),
        (["node1", "status"], ["node1", "status"]),
    ],
)
def test_anything_else_is_the_dashboard(words: list[str], hosts: list[str]) -> None:
    pytest.importorskip("llamatop.cli.dashboard", reason="the dashboard is a part of its own")
    args = parse(words)
    assert args.command == "dashboard"
    assert args.hosts == hosts


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--nonsense"],
        ["status", "--interval", "0"],
        ["status", "--interval", "soon"],
        ["watch", "--count", "0"],
        ["logs"],
        ["logs", "a", "-n", "-3"],
        ["-c"],
    ],
)
def test_wrong_usage_is_one_line_and_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("llamatop: ")
    assert printed.err.count("\n") == 1


def test_no_cluster_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    assert main(["status"]) == 2
    said = capsys.readouterr().err
    for way in ("./cluster.toml", "~/.config/llamatop/cluster.toml", "-c FILE", "`llamatop demo`"):
        assert way in said


def test_a_missing_file_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-c", "/nonexistent/cluster.toml"]) == 2
    assert "/nonexistent/cluster.toml" in capsys.readouterr().err


CLUSTER = """
[[node]]
name = "a"
ssh = "a"
[[node]]
name = "b"
ssh = "b"
"""


def test_a_host_with_c_is_a_node_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from llamatop.cli.options import require_cluster

    file = tmp_path / "cluster.toml"
    file.write_text(CLUSTER)
    cluster = require_cluster(parse(["status", "-c", str(file), "b", "--interval", "3"]))
    assert [node.name for node in cluster.nodes] == ["b"]
    assert cluster.interval_seconds == 3.0
    assert main(["status", "-c", str(file), "c"]) == 2
    assert "a, b" in capsys.readouterr().err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(module, "parse", lambda words: argparse.Namespace(run=run))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("no"), 2),
        (Unreachable("n", "no"), 3),
        (Refused("no"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_raised_becomes_the_exit_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, error)
    assert main([]) == status


def test_escape_sequences_in_an_error_never_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, Unreachable("n", "\x1b[2Jgone\u202e"))
    assert main([]) == 3
    assert "\x1b" not in (printed := capsys.readouterr().err)
    assert "\u202e" not in printed


def test_a_fault_of_our_own_is_70_and_its_details_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    raising(monkeypatch, RuntimeError("a bug"))
    assert main(["status"]) == 70
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    (kept,) = (tmp_path / "llamatop").iterdir()
    assert str(kept) in printed
    assert "RuntimeError: a bug" in kept.read_text()
    assert main(["status", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


def llamatop(*words: str, **more: object) -> list[str]:
    return [sys.executable, "-m", "llamatop.cli.main", *words]


def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "import argparse, llamatop.cli.main as m\n"
        "def run(args):\n"
        "    for _ in range(1000): print('x' * 1000)\n"
        "    return 0\n"
        "m.parse = lambda words: argparse.Namespace(run=run)\n"
        "raise SystemExit(m.main([]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 0


def test_help_is_quick_and_names_every_command() -> None:
    # Processor time: on a machine that is busy elsewhere the clock on the wall proves nothing.
    best = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(llamatop("--help"), capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for name in ("status", "watch", "logs"):
        assert f"\n  {name} " in done.stdout
    assert best <= 0.15


def test_version() -> None:
    done = subprocess.run(llamatop("--version"), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("llamatop ")

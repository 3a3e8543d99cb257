"""How a unit's worker was started, where the user that looks may not read everything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from llamatop.probe import procfs, starts
from llamatop.probe.processes import Processes

from .node import FakeNode

UNIT = "llama-server-gpu0.service"
RUNS = "/opt/llama-server -m /m.gguf --port 37081"


@pytest.fixture
def start(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a unit that runs `runs`; `own` is its process's environment, None: closed."""
    monkeypatch.setattr(procfs, "ROOT", str(node.proc))

    def read(
        command: str, own: dict[str, str] | None = None, runs: str = RUNS, **shown: str
    ) -> starts.Start:
        node.process(101, shlex.split(runs), unit=UNIT, environment=own)
        if own is None:
            # root may read every file, yet no directory
            (node.proc / "101/environ").unlink()
            (node.proc / "101/environ").mkdir()
        processes = Processes()
        processes.scan()
        said = "{ path=x ; argv[]=" + command.replace("'", "").replace('"', "") + " ; x }"
        return starts.of(UNIT, {"MainPID": "101", "ExecStart": said, **shown}, processes)

    return read


def fragment(folder: Path, command: str) -> str:
    path = folder / "worker.service"
    path.write_text(f"[Service]\nExecStart={command}\n")
    return str(path)


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (RUNS, True),
        ("/usr/bin/env A=1 " + RUNS, True),
        ("/usr/local/bin/run-llama", None),
        (f"/bin/sh -c '. /srv/env; exec {RUNS}'", None),
    ],
)
def test_what_a_script_may_have_set_is_unknown(start: Any, command: str, known: Any) -> None:
    assert start(command, {"LLAMA_API_KEY": "x"}).launch["api_key"] is True
    assert start(command, {}).launch["environment_known"] is True
    launch = start(command).launch
    assert launch["environment_known"] is known
    assert launch["api_key"] is (False if known else None)


def test_a_unit_file_says_what_would_run_now(start: Any, tmp_path: Path) -> None:
    command = RUNS + ' -a "my model"'
    path = fragment(tmp_path, command)
    assert "outdated" not in start(command, {}, command, FragmentPath=path).launch
    assert start(command, {}, FragmentPath=path).launch["outdated"] == [
        "-a (runs with none, now my model)"
    ]


def test_without_the_unit_file_nothing_is_compared(start: Any, tmp_path: Path) -> None:
    command = RUNS + ' -a "my model"'
    for path in ("", str(tmp_path / "gone")):
        assert "outdated" not in start(command, {}, command, FragmentPath=path).launch


def test_a_quoted_variable_is_the_same_as_the_one_that_runs(start: Any, tmp_path: Path) -> None:
    path = fragment(tmp_path, RUNS)
    environment = r'"LLAMA_ARG_ALIAS=a \$5 \"b\" \\ \`c\`" CUDA_VISIBLE_DEVICES=0'
    own = {"LLAMA_ARG_ALIAS": r'a $5 "b" \ `c`', "CUDA_VISIBLE_DEVICES": "0"}
    found = start(RUNS, own, FragmentPath=path, Environment=environment)
    assert "outdated" not in found.launch
    own["LLAMA_ARG_ALIAS"] = "a"
    found = start(RUNS, own, FragmentPath=path, Environment=environment)
    assert found.launch["outdated"] == ["LLAMA_ARG_ALIAS"]


def test_a_variable_that_the_unit_takes_back_is_not_expected(start: Any, tmp_path: Path) -> None:
    given = {
        "FragmentPath": fragment(tmp_path, RUNS),
        "Environment": "CUDA_VISIBLE_DEVICES=0 LLAMA_ARG_HOST=::",
        "UnsetEnvironment": "CUDA_VISIBLE_DEVICES LLAMA_ARG_HOST=127.0.0.1",
    }
    assert "outdated" not in start(RUNS, {"LLAMA_ARG_HOST": "::"}, **given).launch
    assert start(RUNS, {}, **given).launch["outdated"] == ["LLAMA_ARG_HOST"]

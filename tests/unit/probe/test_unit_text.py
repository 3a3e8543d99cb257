"""systemd's text, as systemd 252 printed it and as its manual defines it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.probe import launch, unit_text

CASES = Path(__file__).parents[2] / "cases" / "systemd"
SHOWN = unit_text.blocks((CASES / "show-252.txt").read_text())


def test_blocks_are_told_apart_by_id_in_any_order() -> None:
    assert set(SHOWN) == {
        "llama-server-gpu0.service",
        "llama-server@7.service",
        "llama-wrapped.service",
        "llama-crash.service",
        "llama-tunnel-node2.service",
        "nginx.service",
        "missing.service",
    }
    assert SHOWN["missing.service"]["LoadState"] == "not-found"
    assert SHOWN["llama-crash.service"]["SubState"] == "auto-restart"
    assert SHOWN["llama-server@7.service"]["Description"] == 'llama-server 7 "quoted" <b>%</b>'


def test_two_environment_files_are_two_paths() -> None:
    value = SHOWN["llama-server@7.service"]["EnvironmentFiles"]
    assert unit_text.environment_files(value) == [
        "/etc/default/llama-7",
        "/etc/default/llama-common",
    ]


def test_the_shown_environment_keeps_a_space() -> None:
    found = unit_text.assignments(SHOWN["llama-server@7.service"]["Environment"])
    assert found == {
        "CUDA_VISIBLE_DEVICES": "7",
        "LLAMA_ARG_ALIAS": "my model",
        "LLAMA_ARG_HOST": "0.0.0.0",
    }


def test_the_shown_command_of_a_unit_and_of_none() -> None:
    words = unit_text.shown_command(SHOWN["llama-server-gpu0.service"]["ExecStart"])
    assert words[:3] == ["/opt/llama/llama-server", "--model", "/opt/models/steady.gguf"]
    assert words[-1] == "--metrics"
    assert unit_text.shown_command("") == []


UNIT = r"""
[Unit]
ExecStart=/not/this
[Service]
Environment=CUDA_VISIBLE_DEVICES=%i "LLAMA_ARG_ALIAS=my model"
ExecStart=/old/llama-server
ExecStart=
ExecStart=-@/usr/bin/env LD_LIBRARY_PATH=/opt /opt/llama-server \
    --model "/opt/my models/%i.gguf" \
    # a comment in between
    --port 3909%i $EXTRA --alias ${NAME} --chat '$$%%'
"""


def test_a_template_with_quotes_continuations_comments_and_variables() -> None:
    words = unit_text.exec_start([UNIT], "llama-server@7.service")
    assert words[0] == "/usr/bin/env"
    expanded = unit_text.expanded(words, {"EXTRA": "-np 3  --metrics", "NAME": "night owl"})
    assert expanded[1:] == [
        "LD_LIBRARY_PATH=/opt",
        "/opt/llama-server",
        "--model",
        "/opt/my models/7.gguf",
        "--port",
        "39097",
        "-np",
        "3",
        "--metrics",
        "--alias",
        "night owl",
        "--chat",
        "$%",
    ]


def test_a_drop_in_replaces_the_command() -> None:
    drop_in = "[Service]\nExecStart=\nExecStart=/new/llama-server --port 1\n"
    assert unit_text.exec_start([UNIT, drop_in], "x.service") == [
        "/new/llama-server",
        "--port",
        "1",
    ]


def test_an_instance_name_is_unescaped_by_capital_i() -> None:
    text = "[Service]\nExecStart=/x %i %I %n %p\n"
    assert unit_text.exec_start([text], r"a@srv-my\x2dmodel.service") == [
        "/x",
        r"srv-my\x2dmodel",
        "srv/my-model",
        r"a@srv-my\x2dmodel.service",
        "a",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"a 'b c' \"d\" e\x20f", ["a", "b c", '"d"', "e f"]),
        ('--x="y z" ""', ["--x=y z", ""]),
        ("  ", []),
        ("'unclosed word", ["unclosed word"]),
        ("trailing\\", ["trailing\\"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert unit_text.words(line) == words


def test_an_environment_file() -> None:
    text = '# no\n; no\nA=1\n B = "two words" \nC=three \\\nlines\nnot a line\nD=\n'
    assert unit_text.environment_file(text) == {
        "A": "1",
        "B": "two words",
        "C": "three  lines",
        "D": "",
    }


@given(st.text(), st.text())
def test_any_text_is_parsed_into_something(text: str, unit: str) -> None:
    unit_text.blocks(text)
    unit_text.environment_file(text)
    unit_text.environment_files(text)
    words = unit_text.exec_start(["[Service]\nExecStart=" + text], unit)
    launch.find(unit_text.expanded(words, unit_text.assignments(text)))

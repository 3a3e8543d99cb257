"""Help that teaches: every command in a group, with an example that works, in 80 columns."""

from __future__ import annotations

import re
import shlex

import pytest

from llamatop.cli.guide import EXAMPLES, GROUPS
from llamatop.cli.parser import build, parse

COMMANDS = sorted(build()[1])


def help_of(name: str | None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    top, commands = build()
    return (top if name is None else commands[name]).format_help()


def test_every_command_stands_in_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = [name for _, names in GROUPS for name in names]
    assert len(placed) == len(set(placed))
    assert set(COMMANDS) <= set(placed)
    text = help_of(None, monkeypatch)
    for name in COMMANDS:
        assert len(re.findall(rf"^  {name} +\S", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_80_columns(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in help_of(name, monkeypatch).splitlines():
        assert len(line) <= 80, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "examples:\n" in help_of(name, monkeypatch)
    tried = 0
    for line in EXAMPLES[name]:
        # What follows two spaces explains; what follows | or > is the shell's.
        found = re.search(r"\bllamatop .*", line)
        if found is None:
            continue
        words = shlex.split(re.split(r"  +| [|>]+ ?", found[0])[0])
        assert words[0] == "llamatop"
        args = parse(words[1:])
        tried += args.command == name
    assert tried


def test_the_exit_status_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = help_of(None, monkeypatch).partition("exit status:")[2]
    for number in ("0", "1", "2", "3", "4", "5", "70", "130"):
        assert re.search(rf"(^|\s){number} \w", told)

"""Whether a tunnel's unit would notice a dead connection: the words, then ssh's own files."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from llamatop.probe import keepalive

LINE = "ssh -N -L 37083:127.0.0.1:37081 {} node2"


def of(line: str, **environment: str) -> bool | None:
    return keepalive.on_command_line(shlex.split(line), environment)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (LINE.format("-o ServerAliveInterval=10"), True),
        (LINE.format("-oServerAliveInterval=1m"), True),
        (LINE.format("-o 'serveraliveinterval 10'"), True),
        (LINE.format("-o ServerAliveInterval=0"), False),
        (LINE.format("-o BatchMode=yes"), True),
        (LINE.format("-o ServerAliveCountMax=3"), None),
        (LINE.format(""), None),
        ("auto" + LINE.format("-M 20000"), True),
        ("auto" + LINE.format("-M 0"), None),
        (LINE.format("-M"), None),
    ],
)
def test_the_command_line(line: str, known: bool | None) -> None:
    assert of(line) is known


def test_autosshs_port_in_the_environment() -> None:
    assert of("auto" + LINE.format(""), AUTOSSH_PORT="20000") is True
    assert of(LINE.format(""), AUTOSSH_PORT="20000") is None


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Host *\n    ServerAliveInterval 15\n", None),
        ("Host *\n    serveraliveinterval=15\n", None),
        ("Include more\n", None),
        ("# ServerAliveInterval 15\nHost *\n    Compression yes\n", False),
        ("", False),
        (None, False),
    ],
)
def test_sshs_file(text: str | None, known: bool | None, tmp_path: Path) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    words = shlex.split(f"/usr/bin/env {LINE.format(f'-F {file}')}")
    assert keepalive.of_unit(words, {}, "root") == {
        "forwards": ["L 127.0.0.1:37083"],
        "keepalive": known,
    }


def test_a_file_that_cannot_be_read_may_say_anything(tmp_path: Path) -> None:
    words = shlex.split(LINE.format(f"-F {tmp_path}"))
    assert keepalive.of_unit(words, {}, "root")["keepalive"] is None


def test_sshs_file_is_not_read_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    file.write_text("ServerAliveInterval 15\n")
    words = shlex.split(LINE.format(f"-F {file}"))
    now = 1000.0
    monkeypatch.setattr(keepalive.time, "monotonic", lambda: now)
    assert keepalive.of_unit(words, {}, "root")["keepalive"] is None
    file.write_text("")
    assert keepalive.of_unit(words, {}, "root")["keepalive"] is None
    assert keepalive.of_unit(words, {}, "other")["keepalive"] is False
    now += 3600
    assert keepalive.of_unit(words, {}, "root")["keepalive"] is False


def test_a_user_that_is_not_there_has_files_that_are_not_known() -> None:
    words = shlex.split(LINE.format(""))
    assert keepalive.of_unit(words, {}, "no-such-user")["keepalive"] is None


def test_no_ssh_at_all() -> None:
    assert keepalive.of_unit(["/usr/bin/socat"], {}, "root") == {}

"""Whether a tunnel's unit would notice a dead connection: the words, then ssh's own files."""

from __future__ import annotations

import shlex
import threading
import time
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


def looked(files: keepalive.Files, line: str, user: str = "root") -> bool | None:
    """What the files say once the thread has read them."""
    asked = (user, *shlex.split(line))
    files.keepalive(asked)
    deadline = time.monotonic() + 30
    while asked in files._asked:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return files.keepalive(asked)


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
    assert looked(keepalive.Files(), LINE.format(f"-F {file}")) is known


def test_a_unit_tells_its_forwards_and_what_its_words_settle() -> None:
    words = shlex.split(f"/usr/bin/env {LINE.format('')}")
    assert keepalive.of_unit(words, {}) == {
        "forwards": ["L 127.0.0.1:37083"],
        "keepalive": None,
    }
    words = shlex.split(LINE.format("-o ServerAliveInterval=0"))
    assert keepalive.of_unit(words, {})["keepalive"] is False
    assert keepalive.of_unit(["/usr/bin/socat"], {}) == {}


def test_a_file_that_cannot_be_read_may_say_anything(tmp_path: Path) -> None:
    assert looked(keepalive.Files(), LINE.format(f"-F {tmp_path}")) is None


def test_sshs_file_is_not_read_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    file.write_text("ServerAliveInterval 15\n")
    line = LINE.format(f"-F {file}")
    files = keepalive.Files()
    assert looked(files, line) is None
    file.write_text("")
    assert looked(files, line) is None
    assert looked(files, line, "other") is False
    monkeypatch.setattr(keepalive, "_KEPT_SECONDS", 0.0)
    assert looked(files, line) is False


def test_a_home_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hangs(words: list[str], user: str | None) -> bool:
        release.wait(30)
        return False

    monkeypatch.setattr(keepalive, "configured", hangs)
    files = keepalive.Files()
    begun = time.monotonic()
    for _ in range(100):
        assert files.keepalive(("root", "ssh", "node2")) is None
    assert time.monotonic() - begun < 10
    release.set()
    assert looked(files, "ssh node2") is False


def test_a_user_that_is_not_there_has_files_that_are_not_known() -> None:
    assert looked(keepalive.Files(), LINE.format(""), "no-such-user") is None

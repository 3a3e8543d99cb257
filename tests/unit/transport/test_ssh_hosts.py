"""The hosts that an ssh configuration names: aliases, files included, and no patterns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamatop.transport.ssh_hosts import MOST_HOSTS, ssh_hosts


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_aliases_without_patterns(tmp_path: Path) -> None:
    text = (
        "# Host commented\n"
        "Host alpha beta *.example  # and a comment\n  HostName 10.0.0.1\n"
        'host=gamma\n\tHOST = "delta"\n'
        "Host alpha !x ?\nMatch host eps\nHost -oProxyCommand=x\n"
    )
    assert ssh_hosts(write(tmp_path / "config", text)) == ["alpha", "beta", "gamma", "delta"]


def test_included_files_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "1.conf", "Host one\n")
    write(tmp_path / "more" / "2.conf", f"Include {tmp_path}/inner\nHost two\n")
    write(tmp_path / "inner", "Host inner\n")
    text = f"Host first\nInclude {tmp_path}/more/*.conf {tmp_path}/absent\nHost last\n"
    found = ssh_hosts(write(tmp_path / "config", text))
    assert found == ["first", "one", "inner", "two", "last"]


def test_a_circle_of_includes_ends(tmp_path: Path) -> None:
    path = tmp_path / "config"
    write(path, f"Include {path}\nHost here\nInclude {tmp_path}/*\n")
    assert ssh_hosts(path) == ["here"]


@pytest.mark.parametrize("text", ["", "\0\xff\n", "Host 'unclosed\n", "Host\n", "=\n", "Include\n"])
def test_what_is_odd_is_no_fault(tmp_path: Path, text: str) -> None:
    assert ssh_hosts(write(tmp_path / "config", text)) in ([], ["'unclosed"])


def test_control_characters_are_no_name(tmp_path: Path) -> None:
    assert ssh_hosts(write(tmp_path / "config", "Host a\x1b[2J b\n")) == ["b"]


def test_no_configuration_is_no_hosts(tmp_path: Path) -> None:
    assert ssh_hosts(tmp_path / "missing") == []
    assert ssh_hosts(tmp_path) == []


def test_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "config", "Host a\n")
    path.chmod(0)
    assert ssh_hosts(path) == ([] if os.getuid() else ["a"])


def test_there_is_an_end(tmp_path: Path) -> None:
    many = "".join(f"Host h{number}\n" for number in range(3 * MOST_HOSTS))
    assert len(ssh_hosts(write(tmp_path / "config", many))) == MOST_HOSTS

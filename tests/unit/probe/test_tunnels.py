"""Forwards from the command lines that people write."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.probe import tunnels

ONE = [("L", "127.0.0.1:37083", "127.0.0.1:37081")]


@pytest.mark.parametrize(
    ("line", "destination", "forwards"),
    [
        ("ssh -N -L 37083:127.0.0.1:37081 node2", "node2", ONE),
        ("ssh -NTL37083:127.0.0.1:37081 -p 2222 ops@node2", "ops@node2", ONE),
        ("ssh -fNL 37083:127.0.0.1:37081 -o ServerAliveInterval=5 -i /k -- node2", "node2", ONE),
        ("ssh node2 -N -L 127.0.0.1:37083:127.0.0.1:37081", "node2", ONE),
        ("ssh -N -o 'LocalForward 37083 127.0.0.1:37081' node2", "node2", ONE),
        ("ssh -N -o LocalForward=37083\\ 127.0.0.1:37081 node2", "node2", ONE),
        ("/usr/lib/autossh/autossh -M 0 -N -L 37083:127.0.0.1:37081 node2", "node2", ONE),
        ("autossh -M0 -NL 37083:127.0.0.1:37081 node2", "node2", ONE),
        (
            "ssh -N -R 0.0.0.0:80:localhost:37081 gate",
            "gate",
            [("R", "0.0.0.0:80", "localhost:37081")],
        ),
        ("ssh -N -L '[::1]:1:[fe80::1]:2' n", "n", [("L", "[::1]:1", "[fe80::1]:2")]),
        ("ssh -N -L '*:1:a:2' -R 3:b:4 n", "n", [("L", "*:1", "a:2"), ("R", "127.0.0.1:3", "b:4")]),
        ("ssh -D 1080 -W host:1 -L /run/a.sock:/run/b.sock node2", "node2", []),
        ("ssh node2 echo -L 1:a:2", "node2", []),
        ("ssh -M -S /c node2 -L 37083:127.0.0.1:37081", "node2", ONE),
        ("ssh", None, []),
    ],
)
def test_a_line(line: str, destination: str, forwards: list[tuple[str, str, str]]) -> None:
    assert tunnels.parse(shlex.split(line)) == (destination, forwards)


@given(
    st.lists(st.text() | st.sampled_from(["ssh", "-L", "-NL", "-o", "1:a:2", "-R", "--", "[::"]))
)
def test_any_words_are_parsed(words: list[str]) -> None:
    for direction, listen, target in tunnels.parse(words)[1]:
        assert direction in "LR"
        assert ":" in listen
        assert ":" in target

"""Server lines added beside another: where they stand, what they take over, and that they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llamatop import nginx
from tests.unit.nginx.test_nginx import _files

CASES = Path(__file__).parents[2] / "cases" / "nginx"
NEW = "127.0.0.1:37999"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            b"upstream u {\n    least_conn;\n    server a weight=2 max_fails=0; # old\n}\n",
            b"upstream u {\n    least_conn;\n    server a weight=2 max_fails=0; # old\n"
            b"    server 127.0.0.1:37999 weight=2 max_fails=0;\n}\n",
        ),
        (
            b"upstream u {\r\n\tserver a down;\r\n}\r\n",
            b"upstream u {\r\n\tserver a down;\r\n\tserver 127.0.0.1:37999;\r\n}\r\n",
        ),
        (
            b"upstream u { server a; server b; }",
            b"upstream u { server a; server 127.0.0.1:37999; server b; }",
        ),
        (b"server a", None),
        (b"server a\n  weight=3;", b"server a\n  weight=3;\nserver 127.0.0.1:37999 weight=3;"),
        (b"server a; # here\n", b"server a; # here\nserver 127.0.0.1:37999;\n"),
    ],
)
def test_it_stands_beside_with_the_same_parameters_and_goes_without_a_trace(
    before: bytes, after: bytes | None
) -> None:
    if after is None:
        with pytest.raises(nginx.NginxSyntaxError):
            nginx.add(before, "u", "a", NEW)
        return
    assert nginx.add(before, "u", "a", NEW) == after
    assert nginx.add(after, "u", "a", NEW) == after
    assert nginx.remove(after, "u", NEW) == before


def test_only_the_named_upstream_gets_it() -> None:
    data = (CASES / "upstream.conf").read_bytes()
    added = nginx.add(data, "embeddings", "127.0.0.1:37081", NEW)
    lines = [(m.upstream, m.address) for m in nginx.members({"f": added}, "f")]
    assert ("embeddings", NEW) in lines
    assert ("llama_cluster", NEW) not in lines
    with pytest.raises(KeyError, match=r"no server 127\.0\.0\.1:1 in upstream embeddings"):
        nginx.add(data, "embeddings", "127.0.0.1:1", NEW)


@settings(max_examples=100, deadline=None)
@given(_files(), st.data())
def test_several_added_and_removed_give_the_same_bytes(before: bytes, data: st.DataObject) -> None:
    members = nginx.members({"f": before}, "f")
    beside = data.draw(st.sampled_from(members))
    added = before
    new = [f"192.0.2.9:{port}" for port in (1001, 1002, 1003)]
    for address in reversed(new):
        added = nginx.add(added, beside.upstream, beside.address, address)
    now = nginx.members({"f": added}, "f")
    assert [m.address for m in now if m.address in new] == new
    assert {(m.upstream, m.weight, m.backup, m.down) for m in now if m.address in new} == {
        (beside.upstream, beside.weight, beside.backup, False)
    }
    assert [m for m in now if m.address not in new] == [
        replace(m, line=n.line)
        for m, n in zip(members, (n for n in now if n.address not in new), strict=True)
    ]
    for address in data.draw(st.permutations(new)):
        added = nginx.remove(added, beside.upstream, address)
    assert added == before

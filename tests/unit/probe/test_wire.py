"""Merge patches: whatever changes, the other side ends up with the same document."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llamatop.collect import merge
from llamatop.probe import wire

LEAVES = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_applied_gives_the_document(after: Any, before: Any) -> None:
    patch = wire.diff(after, before)
    assert merge.apply(before, json.loads(wire.line(patch))) == after
    if after == before and json.dumps(after) == json.dumps(before):
        assert patch == {}


@given(DOCUMENTS)
def test_a_document_against_nothing_is_itself(document: Any) -> None:
    assert merge.apply({}, wire.diff(document, {})) == document


def test_only_what_changed_is_sent() -> None:
    before = {"workers": {"a": {"health": "ok", "n": 1}, "b": {"n": 2}}, "gone": 1}
    after = {"workers": {"a": {"health": "ok", "n": 5}, "b": {"n": 2}}}
    assert wire.diff(after, before) == {"workers": {"a": {"n": 5}}, "gone": None}


def test_one_is_not_true() -> None:
    assert wire.diff({"a": True}, {"a": 1}) == {"a": True}
    assert wire.diff({"a": 1.0}, {"a": 1}) == {"a": 1.0}


WILD = st.recursive(
    LEAVES
    | st.none()
    | st.floats()
    | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), WILD))
def test_any_document_is_one_line_of_strict_ascii_json(document: Any) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = wire.line(wire.diff(wire.clean(document), {}))
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert json.loads(line, parse_constant=refuse) == wire.clean(document)


def test_a_name_of_any_bytes_survives() -> None:
    name = b"\xff\x1b[31m<b>'\"\n".decode("utf-8", "surrogateescape")
    again = json.loads(wire.line({"name": name}))["name"]
    assert again.encode("utf-8", "surrogateescape") == b"\xff\x1b[31m<b>'\"\n"

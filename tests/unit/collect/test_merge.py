"""Merge patches: RFC 7396's own examples, and that a patch brings one document to another."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.collect.merge import apply

EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=2), values, max_size=5)


def difference(before: object, after: object) -> object:
    """The patch between two documents without nulls, as a probe makes it."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch: dict[str, object] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        if key not in before or before[key] != value or type(before[key]) is not type(value):
            patch[key] = difference(before.get(key), value)
    return patch


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_the_examples_of_the_rfc(target: object, patch: object, result: object) -> None:
    assert apply(target, patch) == result


@given(documents, documents)
def test_a_difference_brings_one_document_to_the_other(
    before: dict[str, object], after: dict[str, object]
) -> None:
    kept = copy.deepcopy(before)
    assert apply(before, difference(before, after)) == after
    assert before == kept


@given(documents)
def test_what_is_not_touched_is_the_same_object(document: dict[str, object]) -> None:
    document["kept"] = {"inside": [1]}
    merged = apply(document, {"other": {"new": 1}})
    assert isinstance(merged, dict)
    assert merged["kept"] is document["kept"]

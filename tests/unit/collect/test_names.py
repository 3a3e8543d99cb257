"""Workers' names as CLI.md gives them, and the words that mean them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.collect.names import matches, select, short_names
from llamatop.model.cluster import WorkerView
from llamatop.model.observed import UnitState, WorkerSample

units = st.builds(
    lambda prefix, name, suffix: prefix + name + suffix,
    st.sampled_from(["", "llama-server-", "llama-server@", "ollama-", "vllm@", "llama-server"]),
    st.text("ab0-@.\\", max_size=4),
    st.sampled_from([".service", ""]),
).filter(bool)


def view(node: str, name: str, unit: str) -> WorkerView:
    return WorkerView(name, node, UnitState(unit), WorkerSample(unit))


WORKERS = (
    view("node1", "node1/gpu0", "llama-server-gpu0.service"),
    view("node1", "node1/gpu1", "llama-server-gpu1.service"),
    view("node2", "node2/gpu0", "llama-server-gpu0.service"),
    view("node2", "node2/llama-server", "llama-server.service"),
)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("llama-server-gpu0.service", "n/gpu0"),
        ("llama-server@gpu0.service", "n/gpu0"),
        ("ollama-a.service", "n/a"),
        ("vllm@big.service", "n/big"),
        ("llama-server.service", "n/llama-server"),
        ("ollama.service", "n/ollama"),
        ("ollama-.service", "n/ollama-.service"),
        ("my-llm.service", "n/my-llm"),
    ],
)
def test_short_names(unit: str, name: str) -> None:
    assert short_names("n", [unit]) == {unit: name}


def test_two_that_would_be_called_the_same_go_by_their_whole_units() -> None:
    both = ["llama-server-gpu0.service", "ollama-gpu0.service", "vllm-x.service"]
    assert short_names("n", both) == {
        "llama-server-gpu0.service": "n/llama-server-gpu0.service",
        "ollama-gpu0.service": "n/ollama-gpu0.service",
        "vllm-x.service": "n/x",
    }


@given(st.lists(units, unique=True, max_size=6))
def test_names_are_unique_and_each_means_its_own_unit(found: list[str]) -> None:
    named = short_names("n", found)
    assert len(set(named.values())) == len(found)
    workers = [view("n", name, unit) for unit, name in named.items()]
    for unit, name in named.items():
        assert [worker.unit.name for worker in select(name, workers)] == [unit]
        assert unit in [worker.unit.name for worker in select(f"n/{unit}", workers)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("node1/gpu0", ["node1/gpu0"]),
        ("node1/llama-server-gpu0", ["node1/gpu0"]),
        ("node1/llama-server-gpu0.service", ["node1/gpu0"]),
        ("node1/*", ["node1/gpu0", "node1/gpu1"]),
        ("*/gpu0", ["node1/gpu0", "node2/gpu0"]),
        ("node?/gpu[1]", ["node1/gpu1"]),
        ("node2/llama-server", ["node2/llama-server"]),
        ("node1/llama-server-*.service", ["node1/gpu0", "node1/gpu1"]),
        ("node1", []),
        ("gpu0", []),
        ("NODE1/gpu0", []),
        ("", []),
    ],
)
def test_what_a_word_means(pattern: str, names: list[str]) -> None:
    assert [worker.name for worker in select(pattern, WORKERS)] == names


def test_a_unit_that_is_no_worker_is_meant_the_same_way() -> None:
    assert matches("node1/nginx", "node1", "node1/nginx.service", "nginx.service")
    assert not matches("node1/nginx", "node2", "node2/nginx.service", "nginx.service")

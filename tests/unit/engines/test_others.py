"""Ollama and vLLM, and what a Prometheus line may look like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.engines import ENGINES, ollama, prometheus, slots, vllm
from llamatop.engines.exchange import Response

from .recorded import LLAMA, REFUSED, TIMED_OUT, Server, response


def test_ollama_tells_its_model() -> None:
    server = Server({"/api/ps": "ollama/ps", "/api/version": "ollama/version"})
    sample = server.talk(ollama.read({}, False))
    assert sample["health"] == "ok"
    assert sample["model"] == "llama3.1:8b"
    assert sample["model_names"] == ["llama3.1:8b"]
    assert sample["context_tokens"] == 4096
    assert sample["build"] == "0.20.1"
    assert "slots" not in sample


def test_ollama_with_nothing_loaded_is_well() -> None:
    sample = Server({"/api/ps": "ollama/ps-empty"}).talk(ollama.read({}, False))
    assert sample["health"] == "ok"
    assert sample["model_names"] == []
    assert "model" not in sample


def test_ollama_with_a_full_queue_says_so() -> None:
    sample = Server({"/api/ps": "ollama/busy"}).talk(ollama.read({}, False))
    assert sample["health"] == "error"
    assert "server busy" in sample["fault"]


def test_ollamas_children_lend_it_their_slots() -> None:
    child = Server(
        {
            "/props": LLAMA + "props",
            "/metrics": LLAMA + "metrics-off",
            "/slots": LLAMA + "slots-busy",
        }
    ).talk(ENGINES["llama-server"].read({}, False))
    own = Server({"/api/ps": "ollama/ps"}).talk(ollama.read({}, False))
    joined = ollama.attach(own, [child, {"health": "loading"}])
    assert joined["engine"] == "ollama"
    assert joined["slots_total"] == 4
    assert [slot["busy"] for slot in joined["slots"].values()].count(True) == 3
    assert joined["model"] == "llama3.1:8b"


VLLM = {"/metrics": "vllm/metrics", "/v1/models": "vllm/models", "/version": "vllm/version"}


def test_vllm_is_summed_over_its_engines() -> None:
    sample = Server(VLLM).talk(vllm.read({}, False))
    assert sample["requests_processing"] == 5
    assert sample["requests_deferred"] == 1
    assert sample["kv_cache_percent"] == 37.5
    assert sample["counters"] == {
        "live": True,
        "generation_tokens_total": 3234.0,
        "generation_tokens_step": 1.0,
        "prompt_tokens_total": 1_057_200.0,
        "prompt_tokens_step": 1.0,
    }
    assert sample["model"] == "Qwen/Qwen3-8B"
    assert sample["context_tokens"] == 40960
    assert sample["build"] == "0.18.0"


def test_vllm_with_a_key_for_v1_alone_is_still_read() -> None:
    sample = Server({**VLLM, "/v1/models": "vllm/unauthorized"}).talk(vllm.read({}, False))
    assert sample["health"] == "ok"
    assert sample["requests_processing"] == 5
    assert "api_key_env" in sample["fault"]


def test_vllm_without_metrics_is_told_by_its_empty_health() -> None:
    sample = Server({"/health": "vllm/health"}).talk(vllm.read({}, False))
    assert sample["health"] == "ok"
    assert sample["metrics"] is False


@pytest.mark.parametrize("printed", [b"-1", b"-1e308", b"1e308", b"1e19", b"nan", b"+Inf", b"x"])
def test_what_no_counter_can_hold_is_skipped(printed: bytes) -> None:
    assert prometheus.values(b"a " + printed + b"\nb 7\n", (b"a", b"b")) == {b"b": (7.0, 1.0)}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_tells_refused_and_silent(engine: Any) -> None:
    class Everything(dict[str, Response]):
        def get(self, key: str, default: Any = None) -> Any:
            return self.answer

        answer = REFUSED

    for answer in (REFUSED, TIMED_OUT):
        server = Server({})
        server.answers = Everything()
        server.answers.answer = answer
        for conversation in (engine.read({}, False), engine.check({})):
            sample = server.talk(conversation)
            assert sample["health"] == "unreachable"
            assert sample["fault"]


@pytest.mark.parametrize(
    ("printed", "step"),
    [
        (b"0", 1),
        (b"99", 1),
        (b"999999", 1),
        (b"1e+06", 10),
        (b"1.0571e+06", 10),
        (b"3.00001e+08", 1000),
        (b"3.0000123e+08", 10),
        (b"1.23457E+07", 100),
        (b"12345678", 1),
        (b"nan", 1),
    ],
)
def test_the_step_of_a_printed_number(printed: bytes, step: float) -> None:
    assert prometheus.step(printed) == step


@given(st.integers(min_value=0, max_value=10**15))
def test_a_count_lies_within_half_a_step_of_what_was_printed(count: int) -> None:
    printed = f"{count:.6g}".encode()
    assert abs(float(printed) - count) <= prometheus.step(printed) / 2


@given(st.binary(), st.lists(st.sampled_from([b"a", b"b{x", b"}", b" ", b"1e5", b"\n", b"#"])))
def test_any_bytes_are_some_numbers(noise: bytes, pieces: list[bytes]) -> None:
    for number, width in prometheus.values(noise + b"".join(pieces), (b"a", b"b")).values():
        assert abs(number) < float("inf")
        assert width >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["id", "n_ctx", "is_processing", "next_token", "n_decoded", "n_remain", "id_task",
             "data", "models", "name", "role", "status", "value", "args", "is_sleeping", "error"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_json_is_some_slots(data: Any) -> None:
    for number, slot in slots.parse(data).items():
        assert str(slot["id"]) == number
        assert isinstance(slot["busy"], bool)


@given(st.data())
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_any_answers_give_a_sample(engine: Any, data: st.DataObject) -> None:
    import json

    bodies = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())
    statuses = st.sampled_from([200, 200, 200, 200, 204, 302, 400, 401, 404, 500, 501, 503])

    class Wild(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return Response(data.draw(statuses), {}, data.draw(bodies), at_seconds=1.0)

    memory: dict[str, Any] = {}
    server = Server({})
    server.answers = Wild()
    for _ in range(3):
        sample = server.talk(engine.read(memory, False))
        assert sample["health"] in ("ok", "loading", "unauthorized", "error", "unreachable")
        assert sample["health"] in ("ok", "loading") or sample["fault"]


def test_the_recorded_answers_are_real() -> None:
    assert response(LLAMA + "slots-busy").status == 200

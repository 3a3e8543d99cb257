"""vLLM, as one of 2026 answered and as those of other years do."""

from __future__ import annotations

from typing import Any

import pytest

from llamatop.engines import vllm
from llamatop.engines.exchange import Response

from .recorded import REFUSED, Server, response

REAL = "vllm/build-0.32.0/"
ANSWERS = {
    "/metrics": REAL + "metrics-busy",
    "/v1/models": REAL + "models",
    "/version": REAL + "version",
}


def read(metrics: str | Response, at: float = 1000.0, memory: Any = None) -> dict[str, Any]:
    answer = response(metrics, at) if isinstance(metrics, str) else metrics
    server = Server({**ANSWERS, "/metrics": answer})  # type: ignore[dict-item]
    return server.talk(vllm.read({} if memory is None else memory, False))


def test_a_busy_one_tells_what_runs_and_what_waits() -> None:
    sample = read(REAL + "metrics-busy")
    assert sample["health"] == "ok"
    assert sample["requests_processing"] == 4
    assert sample["requests_deferred"] == 3, "not the sum with the counts by reason"
    assert sample["kv_cache_percent"] > 0
    assert sample["counters"]["generation_tokens_total"] > 0
    assert sample["counters"]["live"] is True
    assert sample["preemptions_total"] == 0
    assert sample["metrics"] is True
    assert sample["model"] == "tiny-llama"
    assert sample["context_tokens"] == 2048
    assert sample["build"] == "0.32.0"
    assert sample["model_names"] == ["tiny-llama", "sql"]
    assert sample["adapters"] == ["sql"]
    assert sample["adapters_busy"] == ["sql"]
    assert "sleeping" not in sample
    assert "engines" not in sample, "one engine is the whole of it"


def test_an_idle_one_has_nothing_to_do() -> None:
    sample = read(REAL + "metrics-idle")
    assert (sample["requests_processing"], sample["requests_deferred"]) == (0, 0)
    assert sample["kv_cache_percent"] == 0.0
    assert "adapters_busy" not in sample
    assert "first_token_seconds" not in sample


def test_the_last_seconds_are_told_between_two_reads() -> None:
    memory: dict[str, Any] = {}
    before = read(REAL + "metrics-idle", 1000.0, memory)
    assert "preemptions_recent" not in before
    after = read(REAL + "metrics-after", 1005.0, memory)
    assert after["preemptions_recent"] == 0
    # its histogram counts five first tokens in the time between, together 5.76 s
    assert after["first_token_seconds"] == 1.153
    grown = after["counters"]["generation_tokens_total"]
    assert grown > before["counters"]["generation_tokens_total"]
    later = read(REAL + "metrics-after", 1016.0, memory)
    assert "first_token_seconds" not in later


def test_a_restart_begins_anew() -> None:
    memory: dict[str, Any] = {}
    read(REAL + "metrics-after", 1000.0, memory)
    read(REAL + "metrics-idle", 1001.0, memory)
    sample = read(REAL + "metrics-busy", 1002.0, memory)
    assert sample["first_token_seconds"] == 1.394


def test_one_of_2025_has_other_names() -> None:
    sample = read("vllm/shapes/metrics-0.8.5")
    assert (sample["requests_processing"], sample["requests_deferred"]) == (3, 2)
    assert sample["kv_cache_percent"] == 43.8
    assert sample["preemptions_total"] == 2
    assert sample["counters"]["generation_tokens_total"] == 42
    assert sample["counters"]["prompt_tokens_total"] == 1500


def test_engines_are_summed_and_told_one_by_one() -> None:
    sample = read("vllm/shapes/two-engines")
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
    assert sample["engines"] == {
        "0": {"running": 3, "waiting": 1, "kv_cache_percent": 50.0},
        "1": {"running": 2, "waiting": 0, "kv_cache_percent": 25.0},
    }


def test_a_data_parallel_one_with_two_api_servers() -> None:
    memory: dict[str, Any] = {}
    busy = read(REAL + "two-engines-busy", 1000.0, memory)
    later = read(REAL + "two-engines-later", 1002.0, memory)
    assert (busy["requests_processing"], busy["requests_deferred"]) == (8, 4)
    assert {name: engine["running"] for name, engine in busy["engines"].items()} == {"0": 4, "1": 4}
    assert {name: engine["waiting"] for name, engine in busy["engines"].items()} == {"0": 2, "1": 2}
    assert "identity" not in busy, "its processes are several"
    grown = [sample["counters"]["generation_tokens_total"] for sample in (busy, later)]
    assert 0 < grown[0] < grown[1]


def test_one_that_sleeps_says_so() -> None:
    body = (
        b'vllm:num_requests_running{engine="0",model_name="m"} 0.0\n'
        b'vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 0.0\n'
        b'vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 1.0\n'
    )
    assert read(Response(200, {}, body, at_seconds=1.0))["sleeping"] is True


def test_without_statistics_only_its_life_is_known() -> None:
    body = b"# HELP python_info x\npython_info 1.0\nprocess_start_time_seconds 1.7e9\n"
    sample = read(Response(200, {}, body, at_seconds=1.0))
    assert sample["health"] == "ok"
    assert sample["metrics"] is False
    assert sample["model"] == "tiny-llama"
    assert "requests_processing" not in sample


def test_a_key_for_v1_alone_hides_the_models_alone() -> None:
    server = Server({**ANSWERS, "/v1/models": REAL + "unauthorized"})
    sample = server.talk(vllm.read({}, False))
    assert sample["health"] == "ok"
    assert sample["requests_processing"] == 4
    assert "api_key_env" in sample["fault"]


@pytest.mark.parametrize("answer", ["not-found", "bad-request"])
def test_without_metrics_it_is_told_by_its_empty_health(answer: str) -> None:
    served = {"/metrics": REAL + answer, "/health": REAL + "health"}
    sample = Server(served).talk(vllm.read({}, False))
    assert sample["health"] == "ok"
    assert sample["metrics"] is False


def test_one_that_is_slow_to_answer_lives() -> None:
    assert Server({"/health": REAL + "health"}).talk(vllm.check({})) == {"health": "busy"}


def test_a_young_one_that_has_never_answered_loads_its_model() -> None:
    memory: dict[str, Any] = {"young": True}
    assert read(REFUSED, memory=memory) == {"engine": "vllm", "health": "loading"}
    assert read(REAL + "metrics-idle", memory=memory)["health"] == "ok"
    assert read(REFUSED, memory=memory)["health"] == "unreachable"
    assert read(REFUSED, memory={"young": False})["health"] == "unreachable"

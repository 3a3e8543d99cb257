"""llama-server's conversation against what real builds answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamatop.engines import llama_server
from llamatop.engines.exchange import Response

from .recorded import LLAMA, REFUSED, TIMED_OUT, Server, response

SERVING = {
    "/props": LLAMA + "props",
    "/metrics": LLAMA + "metrics-busy",
    "/slots": LLAMA + "slots-busy",
}


def one(answers: dict[str, Any], *, key: bool = False, **memory: Any) -> dict[str, Any]:
    return Server(answers).talk(llama_server.read(dict(memory), key))


def test_a_busy_server_is_told_whole() -> None:
    sample = one(SERVING)
    assert sample["health"] == "ok"
    assert sample["engine"] == "llama-server"
    assert sample["requests_processing"] == 3
    assert sample["requests_deferred"] == 0
    assert sample["slots_total"] == 4
    assert sample["context_tokens"] == 2048
    assert sample["counters"] == {
        "live": False,
        "generation_tokens_total": 0.0,
        "generation_tokens_step": 1.0,
        "prompt_tokens_total": 99.0,
        "prompt_tokens_step": 1.0,
    }
    assert sample["identity"].isdigit()
    assert sample["slots"]["0"] == {"id": 0, "busy": False, "context_tokens": 2048}
    busy = sample["slots"]["1"]
    assert busy["busy"] is True
    assert busy["generated_tokens"] > 0
    assert busy["generated_tokens"] + busy["remaining_tokens"] == 300


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("/opt/models/qwen2.5-7b-q4_k_m.gguf", "qwen2.5-7b-q4_k_m"),
        ("ggml-org/gemma-3-4b", "ggml-org/gemma-3-4b"),
        ("chat", "chat"),
    ],
)
def test_a_model_is_called_by_its_alias_or_by_its_files_name(alias: str, name: str) -> None:
    body = json.dumps({"model_alias": alias, "total_slots": 1}).encode()
    assert one({**SERVING, "/props": Response(200, {}, body)})["model"] == name


def test_counters_are_read_just_before_the_slots_and_props_rarely() -> None:
    server = Server(SERVING)
    memory: dict[str, Any] = {}
    for _ in range(3):
        server.talk(llama_server.read(memory, False))
    assert server.asked == ["/props", *["/metrics", "/slots"] * 3]


def test_read_at_is_the_moment_of_the_slots() -> None:
    answers: dict[str, Any] = dict(SERVING)
    answers["/metrics"] = response(LLAMA + "metrics-busy", at=10.0)
    answers["/slots"] = response(LLAMA + "slots-busy", at=10.5)
    assert one(answers)["read_at_seconds"] == 10.5


def test_a_released_slot_keeps_its_context_and_loses_its_counts() -> None:
    sample = one({**SERVING, "/slots": LLAMA + "slots-released"})
    released = sample["slots"]["3"]
    assert released["busy"] is False
    assert released["task_id"] == 2
    assert released["prompt_tokens"] == 92
    assert "generated_tokens" not in released
    assert "remaining_tokens" not in released


@pytest.mark.parametrize(
    ("slots", "busy", "generated", "remaining"),
    [("slots-2024", True, 63, 37), ("slots-2025-object", True, 5, None)],
)
def test_older_shapes_of_slots(
    slots: str, busy: bool, generated: int, remaining: int | None
) -> None:
    sample = one({**SERVING, "/slots": "llama_server/shapes/" + slots})
    slot = sample["slots"]["0"]
    assert (slot["busy"], slot["generated_tokens"]) == (busy, generated)
    assert slot.get("remaining_tokens") == remaining


def test_a_counter_of_3e8_prints_in_steps_of_a_thousand() -> None:
    sample = one({**SERVING, "/metrics": "llama_server/shapes/metrics-large-2025"})
    assert sample["counters"]["generation_tokens_total"] == 300_001_000
    assert sample["counters"]["generation_tokens_step"] == 1000
    assert sample["counters"]["prompt_tokens_step"] == 10
    assert sample["kv_cache_percent"] == 25.0
    assert sample["requests_deferred"] == 12


def test_metrics_switched_off_is_remembered_and_slots_still_told() -> None:
    server = Server({**SERVING, "/metrics": LLAMA + "metrics-off"})
    memory: dict[str, Any] = {}
    first = server.talk(llama_server.read(memory, False))
    second = server.talk(llama_server.read(memory, False))
    assert first["metrics"] is second["metrics"] is False
    assert second["health"] == "ok"
    assert second["slots_total"] == 4
    assert "counters" not in second or not second["counters"]
    assert server.asked == ["/props", "/metrics", "/slots", "/slots"]


def test_no_slots_endpoint_leaves_health_and_queue() -> None:
    sample = one({**SERVING, "/slots": LLAMA + "slots-off"})
    assert sample["health"] == "ok"
    assert "slots" not in sample
    assert sample["slots_total"] == 4
    assert sample["requests_processing"] == 3


def test_both_endpoints_off_asks_health() -> None:
    server = Server(
        {
            "/props": LLAMA + "props-no-slots",
            "/metrics": LLAMA + "metrics-off",
            "/slots": LLAMA + "slots-off",
            "/health": LLAMA + "health-ok",
        }
    )
    assert server.talk(llama_server.read({}, False))["health"] == "ok"
    assert server.asked[-1] == "/health"


def test_loading_is_no_fault_and_does_not_teach_that_metrics_are_off() -> None:
    loading = {path: LLAMA + "loading" + path.replace("/", "-") for path in SERVING}
    server = Server(loading)
    memory: dict[str, Any] = {}
    sample = server.talk(llama_server.read(memory, False))
    assert sample == {"engine": "llama-server", "health": "loading"}
    server.answers = dict(SERVING)
    assert server.talk(llama_server.read(memory, False))["metrics"] is True


@pytest.mark.parametrize(("key", "word"), [(False, "api_key_env"), (True, "refuses")])
def test_a_missing_and_a_wrong_key_are_told_apart(key: bool, word: str) -> None:
    locked = {path: LLAMA + "unauthorized" + path.replace("/", "-") for path in SERVING}
    sample = one(locked, key=key)
    assert sample["health"] == "unauthorized"
    assert word in sample["fault"]


def test_nothing_listens() -> None:
    sample = one(dict.fromkeys(SERVING, REFUSED))
    assert sample["health"] == "unreachable"
    assert "nothing listens" in sample["fault"]


def test_a_slow_worker_is_busy_where_health_answers_and_unreachable_where_not() -> None:
    busy = Server({"/health": LLAMA + "health-ok"}).talk(llama_server.check({}))
    assert busy == {"health": "busy"}
    silent = Server({"/health": TIMED_OUT}).talk(llama_server.check({}))
    assert silent["health"] == "unreachable"
    assert "no answer" in silent["fault"]


@pytest.mark.parametrize("path", ["/props", "/metrics", "/slots"])
@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"<!DOCTYPE html><html><body>Router login</body></html>", "HTML"),
        (b'[{"id":0,"n_c', "broken JSON"),
        (b"", "empty"),
    ],
)
def test_an_answer_of_another_kind_is_one_clear_sentence(path: str, body: bytes, word: str) -> None:
    sample = one({**SERVING, path: Response(200, {}, body)})
    assert sample["health"] == "error"
    assert path in sample["fault"]
    assert word in sample["fault"]


def test_bytes_that_are_no_text_are_named() -> None:
    sample = one({**SERVING, "/slots": Response(200, {}, b"\xff\xfe\x00garbage")})
    assert sample["health"] == "error"
    assert "10 bytes of something else" in sample["fault"]


def test_too_large_an_answer_is_a_fault() -> None:
    error = Response(0, {}, b"", "the answer is larger than 4 MiB")
    sample = one({**SERVING, "/slots": error})
    assert sample["health"] == "error"
    assert "larger than 4 MiB" in sample["fault"]


def test_a_sleeping_worker_is_asked_nothing_that_wakes_it() -> None:
    server = Server({**SERVING, "/props": LLAMA + "sleeping-props"})
    memory: dict[str, Any] = {}
    for _ in range(5):
        sample = server.talk(llama_server.read(memory, False))
        assert sample["sleeping"] is True
        assert sample["health"] == "ok"
    assert server.asked == ["/props"] * 5


IDLE = {**SERVING, "/metrics": LLAMA + "metrics-fresh", "/slots": LLAMA + "slots-never-used"}


def test_a_worker_that_may_sleep_is_left_alone_while_its_process_rests() -> None:
    server = Server(IDLE)
    memory: dict[str, Any] = {"may_sleep": True, "active": None}
    server.talk(llama_server.read(memory, False))
    server.asked.clear()
    memory["active"] = False
    for _ in range(50):
        sample = server.talk(llama_server.read(memory, False))
        assert sample["health"] == "ok"
        assert sample["slots_total"] == 4
    assert set(server.asked) == {"/props"}
    memory["active"] = True
    server.talk(llama_server.read(memory, False))
    assert server.asked[-1] == "/slots"


def test_without_a_sign_of_work_it_is_asked_ever_more_rarely() -> None:
    server = Server(IDLE)
    memory: dict[str, Any] = {"may_sleep": True}
    for _ in range(130):
        server.talk(llama_server.read(memory, False))
    assert 5 <= server.asked.count("/slots") <= 9


def test_a_router_tells_its_loaded_models_and_loads_none() -> None:
    server = Server(
        {
            "/props": LLAMA + "router-props",
            "/models": LLAMA + "router-models-loaded",
            "/props?model=tiny&autoload=false": LLAMA + "router-props-model",
            "/metrics?model=tiny&autoload=false": LLAMA + "router-metrics-loaded",
            "/slots?model=tiny&autoload=false": LLAMA + "router-slots-loaded",
        }
    )
    memory: dict[str, Any] = {}
    sample = server.talk(llama_server.read(memory, False))
    server.talk(llama_server.read(memory, False))
    assert sample["router"] is True
    assert sample["model_names"] == ["tiny"]
    assert sample["slots_total"] == 2
    assert sample["counters"]["generation_tokens_total"] == 20
    assert not [path for path in server.asked if "steady" in path]
    assert all("autoload=false" in path for path in server.asked if "model=" in path)
    assert not [path for path in server.asked if path in ("/slots", "/metrics")]


@pytest.mark.parametrize("silent", ["loading", "slots-off"])
def test_a_router_with_a_model_that_does_not_tell_its_slots_has_none_to_tell(silent: str) -> None:
    """Both models are loaded; that of one alone is idle, of the other nothing is known."""
    listed = json.loads(response(LLAMA + "router-models-loaded").body)
    for model in listed["data"]:
        model["status"]["value"] = "loaded"
    names = [model["id"] for model in listed["data"]]
    assert len(names) > 1
    answers: dict[str, Any] = {
        "/props": LLAMA + "router-props",
        "/models": Response(200, {}, json.dumps(listed).encode()),
    }
    for name in names:
        query = f"?model={name}&autoload=false"
        answers[f"/props{query}"] = LLAMA + "router-props-model"
        answers[f"/metrics{query}"] = LLAMA + "router-metrics-loaded"
        answers[f"/slots{query}"] = LLAMA + "router-slots-loaded"
    assert one(answers)["slots_total"] == 2 * len(names)
    if silent == "loading":
        answers[f"/metrics?model={names[-1]}&autoload=false"] = LLAMA + "loading-metrics"
    else:
        answers[f"/slots?model={names[-1]}&autoload=false"] = LLAMA + "slots-off"
    sample = one(answers)
    assert sample["health"] == "ok"
    assert "slots" not in sample
    # /props and /metrics tell these where /slots is off
    assert ("slots_total" in sample) is (silent == "slots-off")
    assert ("requests_processing" in sample) is (silent == "slots-off")
    assert sample["counters"]["generation_tokens_total"] >= 20


def test_a_router_with_nothing_loaded_has_no_slots() -> None:
    sample = one({"/props": LLAMA + "router-props", "/models": LLAMA + "router-models"})
    assert sample["health"] == "ok"
    assert sample["slots_total"] == 0
    assert sample["model_names"] == []

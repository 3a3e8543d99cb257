"""Ollama: its models in memory and on disk, and the llama-servers that it spawned."""

from __future__ import annotations

from typing import Any

import pytest

from llamatop.engines import ENGINES, ollama

from .recorded import LLAMA, Server, response

SPILLED = {
    "/api/ps": "ollama/ps-spilled",
    "/api/version": "ollama/version",
    "/api/tags": "ollama/tags",
}


def child(parameters: int | None = None, slots: int = 1, **more: Any) -> dict[str, Any]:
    """A llama-server's sample as the probe has it."""
    found = {
        str(number): {"id": number, "busy": number == 0, "context_tokens": 4096, "task_id": 7}
        for number in range(slots)
    }
    sample = {"health": "ok", "slots": found, "slots_total": slots, "read_at_seconds": 1000.5}
    return {**sample, "parameters": parameters, "identity": "77:1", "metrics": False, **more}


def test_it_tells_its_model() -> None:
    server = Server({"/api/ps": "ollama/ps", "/api/version": "ollama/version"})
    sample = server.talk(ollama.read({}, False))
    assert sample["health"] == "ok"
    assert sample["model"] == "llama3.1:8b"
    assert sample["model_names"] == ["llama3.1:8b"]
    assert sample["context_tokens"] == 4096
    assert sample["build"] == "0.20.1"
    assert "slots" not in sample


def test_with_nothing_loaded_it_is_well_and_has_nothing_to_do() -> None:
    sample = Server({"/api/ps": "ollama/ps-empty"}).talk(ollama.read({}, False))
    assert sample["health"] == "ok"
    assert sample["loaded"] == {}
    assert sample["model_names"] == []
    assert "model" not in sample
    assert (sample["slots"], sample["slots_total"]) == ({}, 0)


def test_with_a_full_queue_it_says_so() -> None:
    sample = Server({"/api/ps": "ollama/busy"}).talk(ollama.read({}, False))
    assert sample["health"] == "error"
    assert "server busy" in sample["fault"]


def test_each_model_tells_its_memory_and_when_it_goes() -> None:
    sample = Server(SPILLED).talk(ollama.read({}, False))
    assert sample["model"] == "qwen2.5:32b"
    assert sample["model_names"] == ["qwen2.5:32b", "llama3.1:8b", "nomic-embed-text:latest"]
    assert "context_tokens" not in sample
    assert sample["loaded"] == {
        "qwen2.5:32b": {
            "size_bytes": 23_622_320_128,
            "gpu_bytes": 13_743_895_347,
            "context_tokens": 8192,
            # the answer's Date is 02:00:00, and it came when the node's clock stood at 1000
            "expires_at_seconds": 1200.2,
            "parameters": "32.8B",
            "quantization": "Q4_K_M",
        },
        "llama3.1:8b": {
            "size_bytes": 6_654_289_920,
            "gpu_bytes": 6_654_289_920,
            "context_tokens": 4096,
            "expires_at_seconds": 1252.5,
            "parameters": "8.0B",
            "quantization": "Q4_K_M",
        },
        "nomic-embed-text:latest": {
            "size_bytes": 595_142_656,
            "gpu_bytes": 0,
            "context_tokens": 2048,
            "forever": True,
            "parameters": "137M",
            "quantization": "F16",
        },
    }


def test_an_expiry_stays_where_it_is_until_it_moves() -> None:
    memory: dict[str, Any] = {}

    def expiry(date: str, at: float) -> float:
        answer = response("ollama/ps-spilled", at)
        answer.headers = {**answer.headers, "date": date}
        server = Server({**SPILLED, "/api/ps": answer})  # type: ignore[dict-item]
        moment: float = server.talk(ollama.read(memory, False))["loaded"]["llama3.1:8b"][
            "expires_at_seconds"
        ]
        return moment

    assert expiry("Sat, 21 Nov 2026 02:00:00 GMT", 1000.0) == 1252.5
    assert expiry("Sat, 21 Nov 2026 02:00:01 GMT", 1001.9) == 1252.5
    assert expiry("Sat, 21 Nov 2026 02:00:09 GMT", 1002.0) == 1245.5


@pytest.mark.parametrize(
    "date", ["", "Sat, 21 Foo 2026 02:00:00 GMT", "Sat, 00 Nov 0000 00:00:00 GMT"]
)
def test_without_its_clock_an_expiry_is_unknown(date: str) -> None:
    answer = response("ollama/ps-spilled")
    answer.headers = {"date": date}
    sample = Server({"/api/ps": answer}).talk(ollama.read({}, False))
    assert "expires_at_seconds" not in sample["loaded"]["llama3.1:8b"]
    assert sample["loaded"]["llama3.1:8b"]["size_bytes"]


def test_what_is_on_disk_is_read_once_and_then_rarely() -> None:
    server, memory = Server(SPILLED), {}
    samples = [server.talk(ollama.read(memory, False)) for _ in range(250)]
    assert "present" not in samples[0]
    assert samples[-1]["present"] == {
        "llama3.1:8b": "4" * 12,
        "nomic-embed-text:latest": "0" * 12,
    }
    # once more, as a model is loaded that the first reading did not have
    assert server.asked.count("/api/tags") == 2
    assert server.asked.count("/api/ps") == 250
    assert set(server.asked) == {"/api/ps", "/api/version", "/api/tags"}


def test_a_list_that_is_not_ready_takes_nothing_away() -> None:
    server, memory = Server({**SPILLED, "/api/tags": "ollama/error"}), {}
    samples = [server.talk(ollama.read(memory, False)) for _ in range(40)]
    assert all(sample["health"] == "ok" and "present" not in sample for sample in samples)
    assert server.asked.count("/api/tags") == 2


def test_a_lone_child_lends_its_slots() -> None:
    served = {
        "/props": LLAMA + "props",
        "/metrics": LLAMA + "metrics-off",
        "/slots": LLAMA + "slots-busy",
        "/v1/models": LLAMA + "models",
    }
    server = Server(served)
    memory: dict[str, Any] = {"describe": True}
    one = [server.talk(ENGINES["llama-server"].read(memory, False)) for _ in range(3)][-1]
    assert one["parameters"] > 0
    assert server.asked.count("/v1/models") == 1
    own = Server({"/api/ps": "ollama/ps"}).talk(ollama.read({}, False))
    joined = ollama.attach(own, [one])
    assert joined["engine"] == "ollama"
    assert joined["model"] == "llama3.1:8b"
    assert joined["slots_total"] == 4
    assert [slot["busy"] for slot in joined["slots"].values()].count(True) == 3
    assert joined["context_tokens"] == 4 * one["context_tokens"]
    assert joined["read_at_seconds"] == one["read_at_seconds"]
    # whatever its parameters: there is one child and one model
    assert joined["loaded"]["llama3.1:8b"]["slots"] == [0, 1, 2, 3]
    assert "requests_deferred" not in joined


def test_children_are_told_apart_by_their_parameters() -> None:
    own = Server(SPILLED).talk(ollama.read({}, False))
    children = [
        child(136_727_040, slots=1),
        child(8_030_261_312, slots=2, identity="78:1"),
        child(32_763_876_352, slots=3, gpu_layers="40"),
    ]
    joined = ollama.attach(own, children)
    assert joined["loaded"]["nomic-embed-text:latest"]["slots"] == [0]
    assert joined["loaded"]["llama3.1:8b"]["slots"] == [1, 2]
    assert joined["loaded"]["qwen2.5:32b"]["slots"] == [3, 4, 5]
    assert joined["loaded"]["qwen2.5:32b"]["gpu_layers"] == "40"
    assert joined["slots_total"] == 6
    assert [slot["id"] for slot in joined["slots"].values()] == [0, 1, 2, 3, 4, 5]
    assert joined["identity"] == "77:1,78:1,77:1"
    assert joined["context_tokens"] == 6 * 4096
    assert "slots" not in own["loaded"]["llama3.1:8b"], "what was given stays as it was"


def test_twins_are_not_guessed_at() -> None:
    own = Server(SPILLED).talk(ollama.read({}, False))
    own["loaded"]["other:8b"] = dict(own["loaded"]["llama3.1:8b"])
    twins = [child(8_030_261_312), child(8_030_261_312), child(None), child(None)]
    joined = ollama.attach(own, twins)
    assert joined["slots_total"] == 4
    assert all("slots" not in model for model in joined["loaded"].values())


def test_a_child_that_loads_or_hangs_or_died() -> None:
    own = Server({"/api/ps": "ollama/ps"}).talk(ollama.read({}, False))
    loading = ollama.attach(own, [{"health": "loading"}])
    assert loading["loaded"]["llama3.1:8b"]["loading"] is True
    assert loading["health"] == "ok"
    assert "slots" not in loading
    assert ollama.attach(own, [child(health="busy")])["health"] == "busy"
    dead = ollama.attach(own, [child(health="unreachable")])
    assert "slots" not in dead
    assert dead["health"] == "ok"


@pytest.mark.parametrize(
    "silent",
    [{"health": "unreachable"}, {"health": "loading"}, {"health": "error"}, child(slots=0), None],
)
def test_the_slots_of_some_children_are_not_all_that_may_be_busy(
    silent: dict[str, Any] | None,
) -> None:
    own = Server(SPILLED).talk(ollama.read({}, False))
    del own["loaded"]["nomic-embed-text:latest"]
    counters = {"generation_tokens_total": 20}
    tells = child(8_030_261_312, requests_processing=0, counters=counters)
    joined = ollama.attach(own, [tells, *([silent] if silent else [])])
    assert not {"slots", "slots_total", "requests_processing"} & joined.keys()
    assert "slots" not in joined["loaded"]["llama3.1:8b"]
    assert joined["counters"] == counters
    assert joined["health"] == "ok"
    both = ollama.attach(own, [tells, child(32_763_876_352, identity="78:1")])
    assert both["slots_total"] == 2
    assert both["identity"] != joined["identity"], "its counters are not the same sum"


def test_a_child_of_what_is_unloaded_tells_nothing() -> None:
    own = Server({"/api/ps": "ollama/ps-empty"}).talk(ollama.read({}, False))
    assert ollama.attach(own, [child()])["slots_total"] == 0


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (8_030_261_312, "8.0B"),
        (7_000_000_000, "7B"),
        (136_727_040, "136.73M"),
        (137_000_000, "137M"),
        (4_200, "4K"),
        (999, "999"),
    ],
)
def test_parameters_as_ollama_writes_them(number: int, written: str) -> None:
    assert ollama.shortened(number) == written

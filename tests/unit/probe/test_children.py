"""An Ollama and its llama-servers, over a process tree and on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .node import FakeNode, Running
from .server import CASES, Worker, captured

OLLAMA = CASES.parents[1] / "ollama"
VLLM = CASES.parents[1] / "vllm" / "build-0.32.0"
UNIT = "ollama.service"
SAFE = {"/api/ps", "/api/version", "/api/tags"}


def told(models: dict[str, str]) -> bytes:
    """/api/ps with these models, by their numbers of parameters as Ollama writes them."""
    entries = [
        {
            "name": name,
            "model": name,
            "size": 1000,
            "size_vram": 600,
            "details": {"parameter_size": parameters},
            "expires_at": "2026-11-21T02:05:00Z",
            "context_length": 2048,
        }
        for name, parameters in models.items()
    ]
    body = json.dumps({"models": entries}).encode()
    head = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 02:00:00 GMT\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def described(parameters: int) -> bytes:
    """/v1/models of a llama-server with so many parameters."""
    body = json.dumps({"data": [{"id": "m", "meta": {"n_params": parameters}}]}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def parent(worker: Worker) -> Worker:
    worker.answers = {
        "/api/ps": told({"tiny:1b": "1B"}),
        "/api/version": (OLLAMA / "version.http").read_bytes(),
        "/api/tags": (OLLAMA / "tags.http").read_bytes(),
    }
    return worker


@pytest.fixture
def child(other: Worker) -> Worker:
    other.answers["/v1/models"] = described(1_000_000_000)
    other.answers["/metrics"] = captured("metrics-off")
    return other


@pytest.fixture
def second() -> Iterator[Worker]:
    server = Worker()
    server.answers["/v1/models"] = described(7_615_616_512)
    server.answers["/metrics"] = captured("metrics-off")
    yield server
    server.close()


def spawn(node: FakeNode, pid: int, port: int, parent: int = 40, *more: str) -> None:
    """A llama-server as Ollama starts one."""
    words = ["/usr/local/lib/ollama/llama-server", "--model", "/blobs/sha256-1"]
    words += ["--port", str(port), "--host", "127.0.0.1", "--no-webui", "--offline", *more]
    node.process(pid, words, unit=UNIT, parent=parent)


def begin(node: FakeNode, parent: Worker) -> Running:
    """The probe over a node whose only unit is the Ollama."""
    environment = {"OLLAMA_HOST": f"127.0.0.1:{parent.port}"}
    node.process(40, ["/usr/local/bin/ollama", "serve"], unit=UNIT, environment=environment)
    node.unit(UNIT, "/usr/local/bin/ollama serve", 40)
    return node.start()


def sample(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document.get("workers", {}).get(UNIT, {})
    return found


def test_a_childs_slots_are_its_parents(node: FakeNode, parent: Worker, child: Worker) -> None:
    spawn(node, 41, child.port)
    # one that lists the cards, as Ollama starts for a moment: nothing is asked of it
    node.process(42, ["/usr/local/lib/ollama/llama-server", "--port", "1"], UNIT, parent=40)
    probe = begin(node, parent)
    document = probe.until(lambda document: "present" in sample(document))
    assert list(document["workers"]) == [UNIT], "a child is no worker"
    worker = sample(document)
    assert worker["engine"] == "ollama"
    assert worker["health"] == "ok"
    assert worker["slots_total"] == 4
    assert len(worker["slots"]) == 4
    assert worker["pids"] == [40, 41, 42]
    assert worker["identity"] == "40:5000,41:5000"
    loaded = worker["loaded"]["tiny:1b"]
    assert loaded["slots"] == [0, 1, 2, 3]
    assert (loaded["size_bytes"], loaded["gpu_bytes"]) == (1000, 600)
    left = loaded["expires_at_seconds"] - worker["read_at_seconds"]
    assert 290 < left < 310
    assert worker["present"]["llama3.1:8b"] == "4" * 12
    assert set(parent.asked) == SAFE, "nothing that loads a model or holds it"
    assert set(child.asked) <= {"/props", "/slots", "/metrics", "/v1/models", "/health"}
    assert child.asked.count("/metrics") == 1, "off, and so not asked again"
    probe.close()


def test_a_model_that_is_loaded_later_is_found_at_once(
    node: FakeNode, parent: Worker, child: Worker, second: Worker
) -> None:
    spawn(node, 41, child.port)
    probe = begin(node, parent)
    probe.until(lambda document: sample(document).get("slots_total") == 4)
    spawn(node, 43, second.port)
    parent.answers["/api/ps"] = told({"tiny:1b": "1B", "large:7b": "7.6B"})
    # sooner than the next look at all processes, which is every five seconds
    document = probe.until(lambda document: sample(document).get("slots_total") == 8, lines=20)
    worker = sample(document)
    assert worker["loaded"]["tiny:1b"]["slots"] == [0, 1, 2, 3]
    assert worker["loaded"]["large:7b"]["slots"] == [4, 5, 6, 7]
    assert worker["identity"] == "40:5000,41:5000,43:5000"
    parent.answers["/api/ps"] = told({"large:7b": "7.6B"})
    for name in (node.proc / "41").iterdir():
        name.unlink()
    (node.proc / "41").rmdir()
    document = probe.until(lambda document: sample(document).get("slots_total") == 4, lines=20)
    assert sample(document)["loaded"] == {
        "large:7b": {**worker["loaded"]["large:7b"], "slots": [0, 1, 2, 3]}
    }
    probe.close()


def test_a_child_that_hangs_ages_alone(node: FakeNode, parent: Worker, child: Worker) -> None:
    spawn(node, 41, child.port)
    probe = begin(node, parent)
    probe.until(lambda document: sample(document).get("slots_total") == 4)
    child.hang.add("/slots")
    document = probe.until(lambda document: sample(document).get("health") == "busy")
    assert sample(document)["slots_total"] == 4
    probe.close()


def test_with_nothing_loaded_nothing_is_busy(node: FakeNode, parent: Worker) -> None:
    parent.answers["/api/ps"] = (OLLAMA / "ps-empty.http").read_bytes()
    probe = begin(node, parent)
    document = probe.until(lambda document: sample(document).get("health") == "ok")
    assert sample(document)["slots_total"] == 0
    assert sample(document)["loaded"] == {}
    probe.close()


def test_a_vllm_that_loads_its_model_has_no_port_yet(node: FakeNode, worker: Worker) -> None:
    unit = "vllm-qwen.service"
    worker.answers = {"/metrics": (VLLM / "metrics-busy.http").read_bytes()}
    port = worker.port
    worker.close()
    words = ["/opt/vllm/bin/python3", "/opt/vllm/bin/vllm", "serve", "tiny", "--port", str(port)]
    # the machine is up for 1000 s and the process for 950
    node.process(50, words, unit=unit, start=5000)
    node.unit(unit, " ".join(words), 50)
    probe = node.start()
    probe.until(lambda document: document.get("workers", {}).get(unit, {}).get("health"))
    assert probe.document["workers"][unit]["health"] == "loading"
    assert "fault" not in probe.document["workers"][unit]
    (node.proc / "uptime").write_text("2000.00 900.00\n")
    document = probe.until(lambda found: found["workers"][unit]["health"] != "loading")
    assert document["workers"][unit]["health"] == "unreachable"
    probe.close()


def test_a_real_vllms_answer(node: FakeNode, worker: Worker) -> None:
    unit = "vllm-qwen.service"
    worker.answers = {
        "/metrics": (VLLM / "two-engines-busy.http").read_bytes(),
        "/version": (VLLM / "version.http").read_bytes(),
        "/v1/models": (VLLM / "models.http").read_bytes(),
    }
    words = ["/opt/vllm/bin/python3", "/opt/vllm/bin/vllm", "serve", "--port", str(worker.port)]
    node.process(50, words, unit=unit)
    node.unit(unit, " ".join(words), 50)
    probe = node.start()
    document = probe.until(lambda found: "engines" in found.get("workers", {}).get(unit, {}))
    found = document["workers"][unit]
    assert found["requests_deferred"] == 4
    assert found["engines"]["1"]["running"] == 4
    assert found["adapters"] == ["sql"]
    assert found["model"] == "tiny-llama"
    assert found["identity"] == "50:5000"
    probe.close()

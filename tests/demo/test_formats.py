"""Its workers answer in the very shapes that a real llama-server was captured with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from random import Random, randrange
from typing import Any

import httpx
import pytest

from llamatop.demo.machine import Machine
from llamatop.demo.shape import NodeShape, WorkerShape
from llamatop.demo.worker import Worker

CAPTURED = Path(__file__).parents[1] / "cases/llama_server/build-10068"
HOST = f"127.{randrange(16, 250)}.{randrange(1, 250)}.7"
PORT = 37081
# Newer than the captured build.
LATER_METRICS = {"# TYPE llamacpp:prompt_tokens_cached_total counter"}


def captured(name: str) -> tuple[int, str]:
    """Status and body of a captured answer."""
    head, _, body = (CAPTURED / f"{name}.http").read_text().partition("\n\n")
    return int(head.split()[1]), body


def shape(value: Any) -> Any:
    """The names and types of a JSON value; lists by their first element."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A started worker whose model is still loading."""
    declared = WorkerShape("llama-server-gpu0.service", PORT, (0,), parallel=2)
    node = NodeShape("node1", HOST, 1, (declared,))
    machine = Machine(node, tmp_path, "up", Random(1))
    made = machine.add_worker(declared)
    await machine.units[declared.unit].start()
    yield made
    machine.stop()


async def get(path: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{HOST}:{PORT}{path}", **more)


async def same(path: str, name: str) -> None:
    """The answer has the captured status and shape."""
    answer = await get(path)
    status, body = captured(name)
    assert answer.status_code == status
    assert answer.reason_phrase == HTTPStatus(status).phrase
    assert shape(answer.json()) == shape(json.loads(body))


async def test_while_loading(worker: Worker) -> None:
    for path in ("health", "slots", "metrics", "props"):
        await same(f"/{path}", f"loading-{path}")


async def test_when_nothing_was_asked_yet(worker: Worker) -> None:
    worker.become_ready()
    await same("/health", "health-ok")
    await same("/slots", "slots-never-used")
    await same("/nowhere", "not-found")


async def test_props_and_models_hold_what_the_real_ones_hold(worker: Worker) -> None:
    worker.become_ready()
    for path, name in (("/props", "props"), ("/v1/models", "models")):
        ours = shape((await get(path)).json())
        real = shape(json.loads(captured(name)[1]))
        ours.pop("chat_template_caps", None)
        assert {key: real.get(key) for key in ours} == ours


async def test_metrics_have_the_same_lines(worker: Worker) -> None:
    worker.become_ready()
    answer = await get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert answer.headers["process-start-time-unix"].isdigit()

    def types(text: str) -> set[str]:
        return {line for line in text.splitlines() if line.startswith("# TYPE")}

    assert types(answer.text) - LATER_METRICS == types(captured("metrics-used")[1])


async def test_slots_while_busy_and_a_stream_to_its_end(worker: Worker) -> None:
    worker.become_ready()

    async def clock() -> None:
        # A time of its own: a machine that stands still must not end the stream at once.
        moment = asyncio.get_running_loop().time()
        while True:
            moment += 0.01
            worker.advance(moment)
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(clock())
    events: list[dict[str, Any]] = []
    asked = {"prompt": "hello", "n_predict": 12, "stream": True}
    url = f"http://{HOST}:{PORT}/completion"
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("POST", url, json=asked) as answer,
    ):
        async for line in answer.aiter_lines():
            if not events:
                busy = next(s for s in (await get("/slots")).json() if s["is_processing"])
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
    ticking.cancel()
    real = next(s for s in json.loads(captured("slots-busy")[1]) if s["is_processing"])
    assert shape(busy) == shape(real)
    assert [event["stop"] for event in events] == [False] * 12 + [True]
    timings = events[-1]["timings"]
    assert timings["predicted_n"] == 12
    assert timings["predicted_per_second"] == pytest.approx(
        12e3 / timings["predicted_ms"], rel=0.01
    )


async def test_a_key_is_asked_for_everywhere_but_at_health(worker: Worker) -> None:
    worker.become_ready()
    worker.require_key("secret")
    await same("/health", "health-ok")
    await same("/slots", "unauthorized-slots")
    for headers in ({"Authorization": "Bearer secret"}, {"X-Api-Key": "secret"}):
        assert (await get("/slots", headers=headers)).status_code == 200


async def test_a_client_that_leaves_frees_its_slot(worker: Worker) -> None:
    worker.become_ready()
    engine = worker.engine
    assert engine is not None
    asked = {"prompt": "hello", "n_predict": 5000}
    async with httpx.AsyncClient(trust_env=False, timeout=0.2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"http://{HOST}:{PORT}/completion", json=asked)
    async with asyncio.timeout(5):
        while engine.busy:
            await asyncio.sleep(0)

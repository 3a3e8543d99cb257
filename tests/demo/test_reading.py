"""What is read within the demo's process is what the real probe reads of the same machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from llamatop.collect import merge
from llamatop.collect.decode import Decoder
from llamatop.demo.embedded import EmbeddedCluster
from llamatop.demo.engine import Request
from llamatop.demo.listening import free_subnet
from llamatop.demo.machine import Machine
from llamatop.demo.reading import Reading
from llamatop.demo.shape import LARGE, SMALL, ClusterShape, NodeShape, WorkerShape
from llamatop.probe import bundle, wire

PORT = 37081
SECONDS = 60.0
HANGS = "llama-server-hangs.service"
REQUEST = 7
# Of the moment of each read, or of the computer that this runs on.
MOVING = {"latency_seconds", "read_at_seconds", "received_at", "uptime_seconds", "cpu_percent"}
# Looks between two ticks are for servers faster than the simulated ones: within, there are none.
MOVING |= {"glances"}
# Ollama's clock, by which this is reckoned, has whole seconds.
MOVING |= {"expires_at_seconds", "expires_at"}


def workers() -> tuple[WorkerShape, ...]:
    """One of every kind, and one for every trouble."""
    names = ("works", "hangs", "loads", "locked", "blind", "stopped", "broken", "lost")
    single = [
        WorkerShape(f"llama-server-{name}.service", PORT + place, (place,))
        for place, name in enumerate(names)
    ]
    return (
        *single,
        WorkerShape("llama-server-split.service", PORT + 8, (8, 9), LARGE),
        WorkerShape("vllm-qwen.service", 8000, (10,), engine="vllm"),
        WorkerShape("vllm-loads.service", 8001, (11,), engine="vllm"),
        WorkerShape("ollama.service", 11434, (12,), parallel=2, engine="ollama"),
    )


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedCluster, Machine]]:
    """A machine in trouble, on which time stands still."""
    subnet, listeners = free_subnet(1)
    node = NodeShape("node1", f"{subnet}.1", 13, workers())
    cluster = EmbeddedCluster(ClusterShape("one", (node,), None), listeners, tmp_path, seed=1)
    cluster.build()
    made = cluster.machines["node1"]
    await cluster.controls["node1"].start()
    by_name = {worker.shape.unit: worker for worker in made.workers}
    loads = [worker for name, worker in by_name.items() if "loads" in name]
    for worker in loads:
        worker.loading_seconds = 600.0
    unnamed = made.units["llama-server-stopped.service"]
    alias = unnamed.argv.index("--alias")
    unnamed.argv = unnamed.argv[:alias] + unnamed.argv[alias + 2 :]
    unnamed.file.write_text(unnamed.text())
    for unit in made.units.values():
        await unit.start()
    by_name["llama-server-blind.service"].metrics = False
    for name, worker in by_name.items():
        if "loads" not in name:
            worker.become_ready()
            worker.submit(Request(100, 50))
            worker.submit(Request(40, 400))
    for _ in range(40):
        made.advance(made.advanced + 0.1, 0.1)
    by_name["llama-server-locked.service"].key = "secret"
    await made.units["llama-server-stopped.service"].stop()
    by_name["llama-server-broken.service"].web.stop()
    for worker in loads:
        assert worker.loading is not None
        worker.loading.cancel()
    made.lose(made.cards[7])
    made.cards[0].temperature = 89.0
    made.refresh()
    made.catch_up = lambda: None  # type: ignore[method-assign]  # its time stands still
    yield cluster, made
    made.stop()
    for control in cluster.controls.values():
        control.stop()
    cluster.clean()


def still(value: Any) -> Any:
    """Without what moves from read to read."""
    if isinstance(value, dict):
        return {name: still(inner) for name, inner in value.items() if name not in MOVING}
    if isinstance(value, list | tuple):
        return [still(inner) for inner in value]
    return value


def is_late(document: dict[str, Any]) -> bool:
    """Whether the worker that hangs is known to do so."""
    worker = document.get("workers", {}).get(HANGS, {})
    return worker.get("health") == "busy" and f"workers/{HANGS}" in document.get("ages", {})


def differing(one: Any, other: Any) -> dict[str, Any]:
    """What the two say differently, by its path."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            f"{name}.{path}" if path else name: values
            for name in one.keys() | other.keys()
            for path, values in differing(one.get(name), other.get(name)).items()
        }
    return {} if one == other else {"": (one, other)}


async def test_the_two_give_the_same_snapshot(
    machine: tuple[EmbeddedCluster, Machine],
) -> None:
    cluster, made = machine
    told = bundle.configuration(1.0, (), {"llama-server-missing": {}})
    argv = list(bundle.command().argv)
    probe = await asyncio.create_subprocess_exec(
        *argv,
        env=cluster.environ(made),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert probe.stdin is not None
    assert probe.stdout is not None
    probe.stdin.write(bundle.payload() + told)
    reading = Reading(made)
    reading.configure(json.loads(told))
    documents: list[Any] = [{}, {}]
    sent: dict[str, Any] = {}
    async with asyncio.timeout(SECONDS):
        for number in count():
            line = await probe.stdout.readline()
            documents[0] = merge.apply(documents[0], json.loads(line))
            after = reading.document()
            documents[1] = merge.apply(documents[1], json.loads(wire.line(wire.diff(after, sent))))
            sent = after
            probe.stdin.write(bundle.beat(number))
            if number == 0:
                probe.stdin.write(bundle.now(REQUEST))
                reading.request(REQUEST)
            made.workers[1].hung = number > 0
            if all(is_late(one) and one.get("answered") for one in documents):
                break
    probe.stdin.close()
    await probe.wait()

    assert [document["answered"] for document in documents] == [REQUEST, REQUEST]
    real, within = (to_builtins(Decoder("node1").snapshot(one, 0.0)) for one in documents)
    assert len(real["workers"]) == len(workers()) + 1
    assert {worker["health"] for worker in real["workers"].values()} == {
        "ok", "busy", "loading", "unauthorized", "unreachable", None,
    }  # fmt: skip
    assert real["workers"]["vllm-loads.service"]["health"] == "loading"
    assert real["workers"]["llama-server-stopped.service"]["model"] == SMALL.name
    ollama = real["workers"]["ollama.service"]
    assert len(ollama["slots"]) == ollama["slots_total"] == 2
    assert ollama["counters"]
    # What else is late on a busy computer is late for the process alone.
    assert within["ages"].keys() == {f"workers/{HANGS}"} <= real["ages"].keys()
    for part in ("host", "gpus", "units", "workers", "tunnels", "faults"):
        assert differing(still(within[part]), still(real[part])) == {}, part


async def test_a_look_is_answered_with_the_age_of_what_is_older(
    machine: tuple[EmbeddedCluster, Machine],
) -> None:
    _, made = machine
    reading = Reading(made)
    # So long a tick that nothing is late by itself.
    reading.configure(json.loads(bundle.configuration(3600.0)))
    first = reading.document()
    assert "answered" not in first
    made.workers[1].hung = True
    made.workers[-1].hung = True
    assert reading.document()["ages"] == {}
    for number in (1, 2):
        reading.request(number)
        looked = reading.document()
        assert looked["answered"] == number
        # An Ollama answers itself; its llama-server, which tells the slots, does not.
        assert looked["ages"].keys() == {f"workers/{HANGS}", "workers/ollama.service"}
    later = reading.document()
    assert later["answered"] == 2
    assert later["ages"] == {}

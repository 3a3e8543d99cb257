"""What the table and the detail say of an Ollama and of a vLLM."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from llamatop.app.render import alerts, columns, detail, workers
from llamatop.app.render.palette import fallback
from llamatop.app.render.state import worker_state
from llamatop.app.rows import Row
from llamatop.collect.hints import Hints
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.observed import (
    EngineLoad,
    GpuSample,
    LoadedModel,
    Slot,
    UnitState,
    WorkerSample,
)
from tests.screens import clusters

PALETTE = fallback()
NOW = datetime(2026, 11, 21, 2, 14, 7, tzinfo=UTC)
GIB = 2**30
LARGE = LoadedModel(
    "qwen2.5:32b",
    size_bytes=20 * GIB,
    gpu_bytes=12 * GIB,
    context_tokens=8192,
    expires_at_seconds=1254.0,
    parameters="32.8B",
    quantization="Q4_K_M",
    slots=(0, 1),
)
EMBEDDER = LoadedModel(
    "nomic-embed-text:latest", size_bytes=GIB // 2, gpu_bytes=GIB // 2, forever=True, slots=(2,)
)
SLOTS = (Slot(0, True, 8192, generated_tokens=3), Slot(1, False, 8192), Slot(2, True, 2048))


def hinted(sample: WorkerSample) -> WorkerView:
    unit = UnitState(f"{sample.engine}.service", "worker", active_state="active", main_pid=1)
    view = WorkerView("a/one", "a", unit, sample, gpus=(1,), topology="per-gpu", age_seconds=1.0)
    return Hints().add((view,), (GpuView("a", GpuSample("G", index=1)),))[0]


def ollama(*loaded: LoadedModel, **more: object) -> WorkerView:
    sample = WorkerSample(
        "ollama.service",
        engine="ollama",
        health="ok",
        model=loaded[0].name if loaded else None,
        loaded=loaded,
        slots=SLOTS if loaded else (),
        read_at_seconds=1000.0,
        present={"qwen2.5:32b": "", "llama3.1:8b": ""},
    )
    return hinted(replace(sample, **more))  # type: ignore[arg-type]


VLLM = WorkerSample(
    "vllm.service",
    engine="vllm",
    health="ok",
    model="tiny",
    requests_processing=8,
    requests_deferred=4,
    kv_cache_percent=62.5,
    context_tokens=2048,
    adapters=("code", "sql"),
    adapters_busy=("sql",),
    preemptions_total=12,
    preemptions_recent=3,
    first_token_seconds=1.25,
    engines=(EngineLoad("0", 4, 4, 90.0), EngineLoad("1", 4, 0, 35.0)),
)


def told(view: WorkerView, width: int = 100) -> str:
    row = Row(view.name, view.node, view.unit, worker_state(view), view)
    lines = detail.facts(row, width, PALETTE, NOW) + detail.slot_lines(view.sample, PALETTE)
    return "\n".join(line.plain.rstrip() for line in lines)


def cells(view: WorkerView, width: int) -> str:
    row = Row(view.name, view.node, view.unit, worker_state(view), view)
    kept = columns.columns([row], width)
    return workers.line(row, kept, width, PALETTE, NOW).plain


def test_an_ollama_says_first_what_is_loaded_where() -> None:
    text = told(ollama(LARGE, EMBEDDER))
    lines = text.splitlines()
    assert lines[0].startswith(" hint       40 % of qwen2.5:32b runs on the CPU (8.0G of 20.0G)")
    loaded = next(place for place, line in enumerate(lines) if line.startswith(" loaded"))
    unit = next(place for place, line in enumerate(lines) if line.startswith(" unit"))
    assert loaded < unit
    assert lines[loaded] == " loaded     qwen2.5:32b  20.0G, 40 % of it (8.0G) on the CPU"
    about = "1/2 slots busy, unloads in 4m13s, 8192 context, 32.8B Q4_K_M"
    assert lines[loaded + 1].strip() == about
    assert lines[loaded + 2].strip() == "nomic-embed-text:latest  512M on the cards"
    assert lines[loaded + 3].strip() == "1/1 slots busy, stays loaded"
    assert "on disk    qwen2.5:32b, llama3.1:8b" in text
    assert "queue      – waiting; Ollama does not tell" in text
    assert " slot 2     ◐ prompt  – tokens  nomic-embed-text:latest" in lines


def test_with_one_model_the_slots_need_no_name() -> None:
    assert "gen  3 after – prompt\n" in told(ollama(LARGE)) + "\n"


def test_nothing_loaded_and_not_known_are_two_things() -> None:
    assert "loaded     nothing; the next request loads its model" in told(ollama())
    assert "loaded     –" in told(ollama(loaded=None))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires_at_seconds": 1000.5}, "1/2 slots busy, unloads now"),
        ({"expires_at_seconds": None}, "1/2 slots busy, 8192 context"),
        ({"loading": True, "slots": None}, "loading, unloads in 4m13s"),
    ],
)
def test_when_it_goes(change: dict[str, object], words: str) -> None:
    text = told(ollama(replace(LARGE, **change)))  # type: ignore[arg-type]
    assert text.split("loaded ")[1].splitlines()[1].strip().startswith(words)


def test_the_table_shows_a_model_that_runs_on_the_cpu() -> None:
    line = cells(ollama(LARGE, EMBEDDER), 200)
    assert " 1▲ " in line
    assert "40 % on cpu" in line
    assert "qwen2.5:32b +1" in line
    alone = ollama(replace(LARGE, gpu_bytes=0))
    assert "▲cpu" in cells(replace(alone, gpus=(), topology="cpu"), 80)
    assert "▲" not in cells(ollama(EMBEDDER), 200)
    assert "none loaded" in cells(ollama(), 200)


def test_hints_are_warnings_among_the_alerts() -> None:
    snapshot = replace(clusters.well(), workers=(ollama(LARGE),))
    (alert,) = alerts.alerts(snapshot)
    assert (alert.severity, alert.where) == ("warning", "a/one")
    assert alert.text.startswith("40 % of qwen2.5:32b runs on the CPU")
    lacking = replace(ollama(EMBEDDER), name="a/other", hints=("lacks x",))
    found = alerts.alerts(replace(snapshot, workers=(lacking, ollama(LARGE))))
    assert [alert.where for alert in found] == ["a/one", "a/other"]


def test_a_vllm_says_first_what_waits() -> None:
    lines = told(hinted(VLLM)).splitlines()
    assert lines[0] == " requests   8 running, 4 waiting"
    assert lines[1] == " KV cache   62 % full"
    assert lines[2] == " TTFT       1.25 s to the first token, mean of the last 10 s"
    assert " LoRA       sql (running), code" in lines
    assert " context    2048 tokens a request" in lines
    assert " preempted  3 in the last minute, 12 in all" in lines
    assert " engine 0   ● 4 running, 4 waiting, KV cache 90 % full" in lines
    assert not [line for line in lines if line.startswith(" queue")]
    assert "kv 62 %" in cells(hinted(VLLM), 120)


def test_names_from_a_node_are_data() -> None:
    view = ollama(replace(LARGE, name="\x1b[31mred[/bold]", slots=(0,)), EMBEDDER)
    assert "\x1b" not in told(view)
    assert "␛[31mred[/bold]" in told(view)
    assert "\x1b" not in cells(view, 200)


def test_what_is_off_says_how_to_switch_it_on() -> None:
    assert "LLAMA_ARG_ENDPOINT_METRICS=1" in told(ollama(LARGE, metrics=False))
    assert "--disable-log-stats" in told(hinted(replace(VLLM, metrics=False)))

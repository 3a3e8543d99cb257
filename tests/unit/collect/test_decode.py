"""Decoding: what a probe says arrives whole, and what is wrong becomes a fault of its part."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from llamatop.collect import merge
from llamatop.collect.decode import Decoder
from llamatop.collect.rates import RateMeter
from llamatop.collect.readers import decode
from llamatop.engines import slots
from llamatop.model.observed import LoadedModel, NodeSnapshot, Slot, Tunnel, WorkerSample

from .fakes import Document, gpu, unit, worker

UNIT = "llama-server-gpu0.service"

keys = st.sampled_from(
    [
        *("tick", "faults", "ages", "host", "gpus", "units", "workers", "tunnels", "balancer"),
        *("slots", "launch", "counters", "busy", "id", "0", "GPU-1", "a.service", "members"),
        *("processes", "throttle", "engine", "health", "index", "direction", "listen", "x"),
    ]
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.integers(min_value=10**400, max_value=10**401),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


def read(document: object) -> NodeSnapshot:
    return Decoder("node1").snapshot(document, 5.0)


def test_a_whole_document() -> None:
    snapshot = read(
        {
            "tick": 7,
            "host": {"cpu_percent": 12, "memory_used_bytes": 1.0, "load1": 0.5},
            "gpus": {"GPU-1": gpu(0, 159)},
            "units": {UNIT: unit()},
            "workers": {UNIT: worker(busy=1, at=2.0)},
            "tunnels": {
                "1": {"direction": "R", "listen": "b", "target": "c", "destination": "d"},
                "0": {"direction": "L", "listen": "a", "target": "c", "destination": "d", "pid": 3},
            },
            "ages": {"gpus": 3},
        }
    )
    assert snapshot.faults == {}
    assert (snapshot.tick, snapshot.received_at, snapshot.ages) == (7, 5.0, {"gpus": 3.0})
    assert snapshot.host.cpu_percent == 12.0
    assert snapshot.host.memory_used_bytes == 1
    assert snapshot.gpus["GPU-1"].uuid == "GPU-1"
    assert snapshot.gpus["GPU-1"].processes == {"159": 2**29}
    assert snapshot.units[UNIT].name == UNIT
    sample = snapshot.workers[UNIT]
    assert sample.unit == UNIT
    assert sample.launch.port == 37081
    assert sample.pids == (37081,)
    assert sample.slots == (
        Slot(0, True, 4096, task_id=0, prompt_tokens=10, generated_tokens=100),
        Slot(1, False, 4096),
    )
    assert snapshot.tunnels == (Tunnel("L", "a", "c", "d", pid=3), Tunnel("R", "b", "c", "d"))


def test_unknown_keys_are_ignored_and_slots_may_be_a_list() -> None:
    complaints: list[str] = []
    sample = decode(
        WorkerSample, {"new": {}, "slots": [{"id": 4, "busy": True, "x": 1}]}, complaints, key="u"
    )
    assert sample == WorkerSample("u", slots=(Slot(4, True),))
    assert complaints == []


def test_a_slot_comes_as_a_row_or_as_an_object() -> None:
    whole = Slot(1, True, 4096, 7, 140, 33, 0, 108, 192)
    given = {
        "0": {"id": 0, "busy": False, "context_tokens": 4096},
        **{str(whole.id): {**asdict(whole)}},
        "2": {"id": 2, "busy": True, "task_id": 9, "generated_tokens": 5},
    }
    rows = json.loads(json.dumps(slots.rows(given)))
    assert rows == {
        "0": [False, 4096],
        "1": [True, 4096, 7, 140, 33, 0, 108, 192],
        "2": [True, None, 9, None, None, None, 5],
    }
    complaints: list[str] = []
    sample = decode(WorkerSample, {"slots": rows}, complaints, key="u")
    assert sample == decode(WorkerSample, {"slots": given}, complaints, key="u")
    assert isinstance(sample, WorkerSample)
    assert sample.slots == (Slot(0, False, 4096), whole, Slot(2, True, None, 9, generated_tokens=5))
    assert complaints == []


def test_a_wrong_field_is_a_fault_of_its_worker_alone() -> None:
    bad = worker() | {"health": "splendid", "slots_total": "many", "read_at_seconds": float("nan")}
    snapshot = read({"workers": {UNIT: bad, "other.service": worker()}})
    assert snapshot.workers[UNIT].health is None
    assert snapshot.workers[UNIT].slots_total is None
    assert snapshot.workers[UNIT].model == "tiny"
    assert "splendid" in snapshot.faults[f"workers/{UNIT}"]
    assert "slots_total" in snapshot.faults[f"workers/{UNIT}"]
    assert snapshot.workers[UNIT].fault == snapshot.faults[f"workers/{UNIT}"]
    assert snapshot.workers["other.service"].fault is None


@pytest.mark.parametrize("absurd", [10**30, -(10**30), 1e300, -1e300, 2**63])
def test_absurd_figures_are_faults_and_rates_go_on(absurd: float) -> None:
    sample = worker(busy=1, slots_total=absurd, read_at_seconds=absurd)
    sample["counters"] = {"generation_tokens_total": absurd, "generation_tokens_step": absurd}
    sample["slots"]["0"]["generated_tokens"] = absurd
    read_worker = read({"workers": {UNIT: sample}, "gpus": {"G": gpu(power_watts=absurd)}}).workers
    assert "expected a" in (read_worker[UNIT].fault or "")
    meter = RateMeter()
    for at in (1.0, 2.0):
        told = meter.update(replace(read_worker[UNIT], read_at_seconds=at))
        assert told.generation_tokens_total is None


def test_a_part_that_is_no_object_is_a_fault() -> None:
    snapshot = read({"gpus": "none", "workers": {UNIT: 5}, "host": []})
    assert snapshot.gpus == {}
    assert snapshot.workers == {}
    assert set(snapshot.faults) == {"gpus", f"workers/{UNIT}", "host"}


def test_the_probes_own_fault_comes_first() -> None:
    snapshot = read({"faults": {"gpus": "no driver"}, "gpus": 3})
    assert snapshot.faults["gpus"] == "no driver"


def test_what_did_not_change_is_not_decoded_again() -> None:
    decoder = Decoder("node1")
    document = merge.apply({}, {"workers": {"a": worker(), "b": worker()}})
    before = decoder.snapshot(document, 1.0)
    document = merge.apply(document, {"workers": {"b": {"requests_deferred": 3}}})
    after = decoder.snapshot(document, 2.0)
    assert after.workers["a"] is before.workers["a"]
    assert after.workers["b"].requests_deferred == 3


changes = st.dictionaries(
    st.sampled_from(["workers", "gpus"]),
    st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.fixed_dictionaries(
            {},
            optional={
                "health": st.sampled_from(["ok", "busy", "splendid", 3, None]),
                "index": st.sampled_from([0, 1.0, "2", None]),
                "utilization_percent": st.sampled_from([5, 5.5, "x", 1e300, None]),
                "processes": st.sampled_from([None, {"7": 1}, {"7": None}, 3]),
                "model": st.sampled_from(["m", 1, None]),
                "read_at_seconds": st.floats() | st.none(),
                "counters": st.sampled_from(
                    [None, 4, {"generation_tokens_total": 5}, {"generation_tokens_total": None}]
                ),
                "launch": st.sampled_from([None, {"port": 1}, {"port": "many"}, {"new": 1}]),
                "slots": st.dictionaries(
                    st.sampled_from(["0", "1", "10", "x"]),
                    st.sampled_from(
                        [
                            None,
                            [True, 4096, 7, 140],
                            [False],
                            [],
                            [True, "many"],
                            [1, 2],
                            [True, 2**70],
                            [True, *range(9)],
                            {"busy": True, "task_id": 4},
                            {"busy": True, "id": 9},
                        ]
                    ),
                    max_size=3,
                )
                | st.sampled_from([None, 5]),
                "glances": st.sampled_from([None, [], [[1.0, {"0": [1, 2]}]]]),
            },
        )
        | st.none(),
        max_size=2,
    ),
)


@given(st.lists(changes, max_size=6))
def test_a_document_that_changed_is_read_as_one_that_came_whole(patches: list[Document]) -> None:
    decoder, told = Decoder("node1"), Decoder("node1")
    document: object = {}
    for patch in patches:
        document = merge.apply(document, patch)
        assert decoder.snapshot(document, 5.0) == read(document)
        assert told.snapshot(document, 5.0, patch) == read(document)


@given(anything)
def test_nothing_raises(document: object) -> None:
    snapshot = read(document)
    assert snapshot.name == "node1"
    for sample in snapshot.workers.values():
        assert isinstance(sample.launch.port, int | None)
        assert isinstance(sample.slots, tuple | None)
    json.dumps(snapshot.faults)


def test_what_an_ollama_holds_and_a_vllms_engines_arrive_whole() -> None:
    document = {
        "workers": {
            "ollama.service": {
                "unit": "ollama.service",
                "loaded": {"b:7b": {"size_bytes": 9, "gpu_bytes": 5, "slots": [0, 1]}, "a:1b": {}},
                "present": {"b:7b": "aa", "a:1b": ""},
            },
            "vllm.service": {
                "unit": "vllm.service",
                "engines": {str(n): {"running": n, "kv_cache_percent": 1.5} for n in range(12)},
                "adapters": ["sql"],
                "preemptions_total": 3,
            },
        }
    }
    decoder = Decoder("n")
    snapshot = decoder.snapshot(document, 0.0)
    assert not snapshot.faults
    ollama, vllm = snapshot.workers.values()
    assert ollama.loaded == (
        LoadedModel("a:1b"),
        LoadedModel("b:7b", size_bytes=9, gpu_bytes=5, slots=(0, 1)),
    )
    assert ollama.loaded[1].cpu_bytes == 4
    assert [engine.running for engine in vllm.engines] == list(range(12))
    assert vllm.adapters == ("sql",)
    # What hundreds of ticks carry unchanged is the same object in all of them.
    moved = merge.apply(document, {"workers": {"ollama.service": {"build": "1"}}})
    again = decoder.snapshot(moved, 1.0).workers["ollama.service"]
    assert again.build == "1"
    assert again.present is ollama.present


def test_digests_of_the_wrong_kind_are_a_fault_of_theirs_alone() -> None:
    given = {"unit": "o", "present": {"a": "1", "b": 2}}
    snapshot = Decoder("n").snapshot({"workers": {"o": given}}, 0.0)
    assert snapshot.workers["o"].present == {"a": "1"}
    assert "present" in snapshot.faults["workers/o"]


def test_slots_that_were_not_told_before_are_read() -> None:
    for rows in ({"0": [False, 4096, None, None, None, None, None, None]}, {}):
        worker = {"engine": "ollama", "health": "ok"}
        decoder = Decoder("n")
        decoder.snapshot({"workers": {"o": worker}}, 1.0)
        told = decoder.snapshot({"workers": {"o": {**worker, "slots": rows}}}, 2.0).workers["o"]
        assert [slot.context_tokens for slot in told.slots or ()] == [4096] * len(rows)

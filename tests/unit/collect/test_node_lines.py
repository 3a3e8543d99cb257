"""A probe's lines: read as they move or whole, they say what all of them say together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, fields

from llamatop.collect import merge, ticks
from llamatop.collect.decode import Decoder
from llamatop.collect.node_lines import NodeLines
from llamatop.collect.upstreams import Upstreams
from llamatop.engines import slots
from llamatop.model.observed import NodeSnapshot, Slot

from .fakes import Document, gpu, unit, worker

UNIT = "llama-server-gpu0.service"
WHOLE: Document = {
    "tick": 1,
    "host": {"cpu_count": 8, "cpu_percent": 3.0},
    "gpus": {"GPU-1": gpu(0, 159), "GPU-2": gpu(1, 160)},
    "units": {UNIT: unit()},
    "workers": {UNIT: worker(busy=1, at=2.0), "b.service": worker(at=2.0)},
    "balancer": {
        "kind": "nginx",
        "main": "/etc/nginx/nginx.conf",
        "files": {
            "/etc/nginx/nginx.conf": {"text": "http { upstream u { server 127.0.0.1:37081; } }"}
        },
    },
}

figure = st.sampled_from([0, 1, 2.5, 3.0, -1, 70, 2**63 - 1, 2**63, 1e300, True, "4", None])
no_object = st.sampled_from(["x", 5, [], None])
row = st.lists(st.sampled_from([True, False, 0, 5, 4096, None, 2**63, "7", 1.0]), max_size=10)


def some(*names: str, **others: st.SearchStrategy[object]) -> st.SearchStrategy[Document]:
    """An object with some of the keys."""
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(names, figure), **others})


moved = st.fixed_dictionaries(
    {"tick": st.integers(0, 9)},
    optional={
        "host": some("cpu_percent", "load1", "memory_used_bytes", "cpu_count"),
        "gpus": no_object
        | st.dictionaries(
            st.sampled_from(["GPU-1", "GPU-2", "GPU-3"]),
            some("power_watts", "sm_clock_mhz", "memory_used_bytes", "index"),
            max_size=2,
        ),
        "units": no_object
        | st.dictionaries(
            st.sampled_from([UNIT, "new.service"]), some("memory_bytes", "restarts"), max_size=2
        ),
        "workers": st.dictionaries(
            st.sampled_from([UNIT, "b.service", "c.service"]),
            some(
                "read_at_seconds",
                "latency_seconds",
                "requests_deferred",
                "context_tokens",
                health=st.sampled_from(["ok", "busy", "odd", None]),
                counters=some("generation_tokens_total", "generation_tokens_step", "new")
                | st.none(),
                slots=st.dictionaries(
                    st.sampled_from(["0", "1", "2", "00", "01", "x"]),
                    row
                    | st.just([True, 4096, 7, 140, 33, 0, 108, 192])
                    | st.just({"busy": True, "id": 9})
                    | st.none(),
                    max_size=3,
                ),
                glances=st.sampled_from([None, [], [[1.0, {"0": [1, 2]}]]]),
            )
            | st.none(),
            max_size=2,
        ),
        "ages": st.sampled_from([None, {"gpus": 2.5}]),
        "faults": st.sampled_from([None, {"gpus": "no driver"}, {f"workers/{UNIT}": "hung"}]),
        "new": st.just({"a": 1}),
        "balancer": st.sampled_from([None, {"files": {}}, {"running": True}, 4]),
    },
)


def line(patch: object) -> bytes:
    return json.dumps(patch).encode() + b"\n"


def whole(document: object, at: float) -> NodeSnapshot:
    """The document read as one that came whole."""
    return Upstreams().complete(Decoder("node1").snapshot(document, at), document)


def said(*patches: object) -> NodeSnapshot:
    """What one who reads the lines says after the last of them."""
    lines = NodeLines("node1")
    for patch in patches:
        snapshot = lines.read(line(patch), 5.0)
    assert snapshot is not None
    return snapshot


@settings(max_examples=300)
@given(st.lists(moved, max_size=6))
def test_lines_say_what_their_document_says(patches: list[Document]) -> None:
    lines = NodeLines("node1")
    document: object = {}
    seen = []
    for at, patch in enumerate((WHOLE, *patches)):
        document = merge.apply(document, json.loads(line(patch)))
        snapshot = lines.read(line(patch), at)
        assert snapshot == whole(document, at)
        seen.append((snapshot, repr(snapshot)))
    assert all(repr(snapshot) == was for snapshot, was in seen), "a snapshot stays as it was"


def test_what_moves_at_every_tick_needs_no_document() -> None:
    tick = {
        "tick": 2,
        "host": {"cpu_percent": 9, "uptime_seconds": 51011},
        "gpus": {"GPU-2": {"power_watts": 169.1, "sm_clock_mhz": 1400}},
        "units": {UNIT: {"memory_bytes": 2**30}},
        "workers": {
            UNIT: {
                "read_at_seconds": 3.0,
                "requests_deferred": 2,
                "counters": {"generation_tokens_total": 9738960.0},
                "slots": {"0": [True, 4096, 7, 140, 33, 0, 108, 192], "1": [False, 4096]},
            }
        },
    }
    assert ticks.read(line(tick)) is not None
    lines = NodeLines("node1")
    lines.read(line(WHOLE), 4.0)
    before = lines.document
    after = lines.read(line(tick), 5.0)
    assert lines.document is before
    assert after is not None
    assert after == whole(merge.apply(WHOLE, tick), 5.0)
    assert after.balancer is not None
    assert [member.address for member in after.balancer.members or ()] == ["127.0.0.1:37081"]
    sample = after.workers[UNIT]
    assert sample.slots == (Slot(0, True, 4096, 7, 140, 33, 0, 108, 192), Slot(1, False, 4096))
    assert sample.counters.generation_tokens_total == 9738960.0
    assert after.gpus["GPU-2"].power_watts == 169.1
    assert after.workers["b.service"].read_at_seconds == 2.0


def test_what_moved_is_not_forgotten_when_a_line_is_read_whole() -> None:
    moved = {"tick": 2, "workers": {UNIT: {"slots": {"1": [True, 4096, 9]}}}}
    other = {"tick": 3, "workers": {UNIT: {"health": "busy", "slots": {"0": [False, 4096]}}}}
    sample = said(WHOLE, moved, other).workers[UNIT]
    assert (sample.health, sample.slots) == (
        "busy",
        (Slot(0, False, 4096), Slot(1, True, 4096, task_id=9)),
    )


@pytest.mark.parametrize("text", [b"", b"\n", b"[1]\n", b"MOTD\n", b'{"tick":', b"\xff{}\n"])
def test_what_is_no_object_is_none(text: bytes) -> None:
    lines = NodeLines("node1")
    assert lines.read(text, 1.0) is None
    lines.read(line(WHOLE), 1.0)
    assert lines.read(text, 2.0) is None


def test_wrong_figures_are_complained_of_as_ever() -> None:
    snapshot = said(WHOLE, {"tick": 2, "workers": {UNIT: {"requests_deferred": 2**63}}})
    assert "requests_deferred" in snapshot.faults[f"workers/{UNIT}"]
    # and are complained of no more once they are right
    again = said(
        WHOLE,
        {"tick": 2, "workers": {UNIT: {"requests_deferred": 2**63}}},
        {"tick": 3, "workers": {UNIT: {"requests_deferred": 2}}},
    )
    assert again.faults == {}
    assert again.workers[UNIT].requests_deferred == 2


def test_a_row_has_a_place_for_every_field_of_a_slot() -> None:
    assert ticks.Row.__struct_fields__ == slots.FIELDS
    assert ("id", *slots.FIELDS) == tuple(field.name for field in fields(Slot))
    assert list(asdict(Slot(0, True))) == ["id", *slots.FIELDS]

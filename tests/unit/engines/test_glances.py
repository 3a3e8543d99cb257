"""Glances: when they are wanted, and that they come whole over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.engines import glances, llama_server, slots
from llamatop.engines.exchange import Response


def busy(task: int, generated: int, remaining: int = 100) -> dict[str, Any]:
    return {
        "id": 0,
        "busy": True,
        "context_tokens": 4096,
        "task_id": task,
        "prompt_tokens": 30 + generated,
        "prompt_tokens_processed": 30,
        "prompt_tokens_cached": 0,
        "generated_tokens": generated,
        "remaining_tokens": remaining,
    }


IDLE = {"id": 0, "busy": False, "context_tokens": 4096, "task_id": 3, "prompt_tokens": 90}


def wanted(*reads: dict[str, Any], seconds: float = 1.0) -> int:
    state: dict[str, Any] = {}
    for number, slot in enumerate(reads):
        glances.watch(state, {"0": slot}, 10.0 + number * seconds)
    return glances.wanted(state, 1.0)


@pytest.mark.parametrize(
    ("reads", "count"),
    [
        ([busy(1, 10)], 3),
        ([busy(1, 10), busy(1, 260), busy(1, 510)], 0),
        ([busy(1, 10), busy(2, 30)], 0),
        ([busy(1, 10), busy(2, 100)], 2),
        ([busy(1, 10), busy(300, 5), busy(700, 2)], 3),
        ([busy(1, 10), busy(1, 40), busy(1, 70), busy(100, 5)], 0),
        ([busy(1, 10), busy(1, 260), busy(9, 20)], 3),
        ([busy(1, 10), busy(2, 260), IDLE], 0),
    ],
    ids=[
        "one read",
        "the task stays",
        "slow",
        "fast",
        "very short",
        "slow by its ids",
        "just begun",
        "idle",
    ],
)
def test_they_are_wanted_where_requests_fit_between_ticks(
    reads: list[dict[str, Any]], count: int
) -> None:
    assert wanted(*reads) == count


def test_a_task_that_stays_long_needs_none() -> None:
    assert wanted(busy(1, 10), busy(2, 100), *(busy(2, 350 + 250 * n) for n in range(12))) == 0


def test_no_idle_server_is_looked_at() -> None:
    conversation = llama_server.glance({"state": {"slots_before": ({"0": IDLE}, 5.0)}})
    with pytest.raises(StopIteration):
        next(conversation)


def test_a_glance_asks_for_the_slots_alone_and_tells_with_the_next_read() -> None:
    memory: dict[str, Any] = {"state": {"slots_before": ({"0": busy(1, 10)}, 5.0)}}
    conversation = llama_server.glance(memory)
    assert next(conversation).path == "/slots"
    body = b'[{"id":0,"is_processing":true,"id_task":7}]'
    with pytest.raises(StopIteration):
        conversation.send(Response(200, {}, body, at_seconds=5.5))
    (told,) = memory["state"]["glances"]
    assert told == {"at_seconds": 5.5, "slots": {"0": {"id": 0, "busy": True, "task_id": 7}}}


def over_the_wire(looked: list[dict[str, Any]], now: dict[str, Any], at: float) -> Any:
    sample = {"slots": now, "read_at_seconds": at}
    sent = json.loads(json.dumps([glances.rows(looked, sample), slots.rows(now)]))
    return sent[0], glances.read(sent[0], sent[1], at)


def test_a_slot_that_went_on_is_one_number() -> None:
    looked = [
        {"at_seconds": 10.25, "slots": {"0": busy(1, 40, 160), "1": IDLE}},
        {"at_seconds": 10.5, "slots": {"0": busy(1, 100, 100), "1": IDLE}},
    ]
    sent, back = over_the_wire(looked, {"0": busy(1, 220, -20), "1": IDLE}, 11.0)
    assert sent == [[0.75, [60, 0]], [0.5, [120, 0]]]
    assert [(one["at_seconds"], one["slots"]) for one in back] == [
        (one["at_seconds"], slots.rows(one["slots"])) for one in looked
    ]


some_slots = st.one_of(
    st.builds(busy, st.integers(1, 3), st.integers(0, 50), st.integers(-50, 50)),
    st.just(IDLE),
    st.builds(
        lambda drop: {k: v for k, v in busy(1, 5).items() if k not in drop},
        st.sets(st.sampled_from(slots.FIELDS[1:])),
    ),
)
several = st.fixed_dictionaries({str(number): some_slots for number in (0, 1, 10)})


@given(st.lists(several, min_size=1, max_size=4))
def test_whatever_the_slots_did_it_comes_back(reads: list[dict[str, Any]]) -> None:
    looked = [
        {"at_seconds": float(number), "slots": found} for number, found in enumerate(reads[:-1])
    ]
    _, back = over_the_wire(looked, reads[-1], 9.0)
    assert back == [{**one, "slots": slots.rows(one["slots"])} for one in looked]


def test_a_glance_at_other_slots_is_not_sent() -> None:
    looked = [{"at_seconds": 8.0, "slots": {"0": IDLE}}]
    assert over_the_wire(looked, {"0": IDLE, "1": IDLE}, 9.0) == ([], [])


wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)


@given(wild, wild | st.dictionaries(st.sampled_from("012"), wild), wild)
def test_anything_can_come(given: Any, shown: Any, at: Any) -> None:
    assert isinstance(glances.read(given, shown, at), list)

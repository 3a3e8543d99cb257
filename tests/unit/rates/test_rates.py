"""What a meter says of samples one after another."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llamatop.collect.rates import RateMeter, Rates
from llamatop.model.observed import Glance, Slot, TokenCounters, WorkerSample


def worker(at: float | None, *slots: Slot, **fields: Any) -> WorkerSample:
    sample = WorkerSample(
        "llama-server.service",
        "llama-server",
        health="ok",
        identity="1",
        slots=slots,
        read_at_seconds=at,
    )
    return replace(sample, **fields)


def busy(
    slot: int, task: int, generated: int, remaining: int | None = None, prompt: int = 20
) -> Slot:
    return Slot(slot, True, 4096, task, prompt + generated, prompt, 0, generated, remaining)


def counted(generated: float, prompt: float = 0.0, step: float = 1.0) -> TokenCounters:
    return TokenCounters(generated, step, prompt, step, live=False)


IDLE = Slot(0, False)


def test_one_read_tells_no_rate() -> None:
    assert RateMeter().update(worker(10.0, busy(0, 1, 50))) == Rates()


def test_an_idle_worker_has_a_rate_of_zero() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, IDLE))
    rates = meter.update(worker(11.0, IDLE))
    assert rates == Rates(0.0, 0.0, None)


def test_a_task_that_goes_on_gives_its_tokens_exactly() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), busy(1, 2, 7)))
    rates = meter.update(worker(12.0, busy(0, 1, 110), busy(1, 2, 67)))
    assert rates.generation_tokens_per_second == 60.0
    assert rates.prompt_tokens_per_second == 0.0


def test_the_tail_of_a_task_is_read_from_the_context_that_its_slot_keeps() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), busy(1, 2, 50)))
    ended = Slot(1, False, 4096, 2, prompt_tokens=20 + 63 - 1)
    rates = meter.update(worker(11.0, busy(0, 1, 90), ended))
    assert rates.generation_tokens_per_second == 40 + 13


def test_a_limit_below_zero_is_none() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), busy(1, 2, 50, 100), busy(2, 3, 50, 100)))
    meter.update(worker(11.0, busy(0, 1, 51), busy(1, 5, 0, -1), busy(2, 6, 0, -1)))
    rates = meter.update(worker(12.0, busy(0, 1, 52), busy(1, 8, 0, -1), busy(2, 9, 0, -1)))
    assert rates.generation_tokens_per_second is not None
    assert 1.0 <= rates.generation_tokens_per_second < 10.0


def test_a_limit_tells_the_tail_of_a_task_whose_slot_is_taken() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50, 500), busy(1, 2, 50, 10)))
    rates = meter.update(worker(11.0, busy(0, 1, 90, 460), busy(1, 99, 30, 70)))
    assert rates.generation_tokens_per_second == 40 + 10 + 30


def test_steps_tell_the_tail_where_the_text_ended_a_task() -> None:
    """All slots taken: the slot had 40 steps, 25 of them are the new task's."""
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), busy(1, 2, 50)))
    rates = meter.update(worker(11.0, busy(0, 1, 90), busy(1, 68, 25)))
    assert rates.generation_tokens_per_second == 80


def test_a_request_that_only_a_glance_saw_counts_whole() -> None:
    """Slot 1: task 2 ends, task 70 comes and goes, task 180 runs at the tick."""
    looked = (
        Glance(10.25, (busy(0, 1, 110, 890), busy(1, 70, 20, 30))),
        Glance(10.5, (busy(0, 1, 170, 830), Slot(1, False, 4096, 70, 20 + 50 - 1))),
    )
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50, 950), busy(1, 2, 70, 30)))
    now = (busy(0, 1, 290, 710), busy(1, 180, 115, 85))
    rates = meter.update(worker(11.0, *now, glances=looked))
    assert rates.generation_tokens_per_second == 240 + 30 + 50 + 115
    assert rates.prompt_tokens_per_second == 20 + 20


def test_a_glance_from_before_the_last_read_is_left_out() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50)))
    looked = (Glance(9.5, (busy(0, 1, 20),)), Glance(11.5, (busy(0, 1, 150),)))
    rates = meter.update(worker(11.0, busy(0, 1, 90), glances=looked))
    assert rates.generation_tokens_per_second == 40


def test_a_counter_corrects_what_the_slots_could_not_tell() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), counters=counted(1000)))
    meter.update(worker(11.0, busy(0, 1, 90), counters=counted(1000)))
    rates = meter.update(worker(12.0, busy(0, 300, 5), counters=counted(1122)))
    assert rates.generation_tokens_per_second == 1122 + 5 - (1000 + 90)
    assert rates.generation_tokens_total == 1127


def test_a_request_that_ends_between_the_two_reads_makes_no_dip_and_no_jump() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 200, 300), busy(1, 2, 300, 30), counters=counted(5000)))
    hidden = Slot(1, False, 4096, 2, prompt_tokens=20 + 330 - 1)
    rates = meter.update(worker(11.0, busy(0, 1, 240, 260), hidden, counters=counted(5000)))
    assert rates.generation_tokens_per_second == 40 + 30
    rates = meter.update(worker(12.0, busy(0, 1, 280, 220), hidden, counters=counted(5330)))
    assert rates.generation_tokens_per_second == 40
    assert rates.generation_tokens_total == 5330 + 280


def test_prompts_are_counted_when_processed_and_cached_tokens_are_not() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, IDLE))
    fresh = Slot(0, True, 4096, 7, 900, 512, 388, 0, 100)
    assert meter.update(worker(11.0, fresh)).prompt_tokens_per_second == 512
    done = replace(fresh, prompt_tokens=1300, prompt_tokens_processed=912, generated_tokens=3)
    rates = meter.update(worker(12.0, done))
    assert rates.prompt_tokens_per_second == 400
    assert rates.generation_tokens_per_second == 3


def test_a_prompt_that_only_the_counter_saw_is_added_once() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, IDLE, counters=counted(0, 100)))
    meter.update(worker(11.0, IDLE, counters=counted(0, 100)))
    rates = meter.update(worker(12.0, Slot(0, False, 4096, 9), counters=counted(40, 350)))
    assert rates.prompt_tokens_per_second == 250
    rates = meter.update(worker(13.0, Slot(0, False, 4096, 9), counters=counted(40, 350)))
    assert rates.prompt_tokens_per_second == 0


def test_a_gap_is_unknown_and_the_next_rate_is_over_all_of_it() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50)))
    meter.update(worker(11.0, busy(0, 1, 90)))
    missing = meter.update(WorkerSample("llama-server.service", health="unreachable"))
    assert missing.generation_tokens_per_second is None
    assert meter.update(worker(15.0, busy(0, 1, 250))).generation_tokens_per_second == 40


def test_the_same_read_again_says_the_same() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50)))
    sample = worker(11.0, busy(0, 1, 90))
    assert meter.update(sample) == meter.update(sample)


@pytest.mark.parametrize(
    "after",
    [
        worker(12.0, busy(0, 1, 5), identity="2", counters=counted(0)),
        worker(12.0, busy(0, 1, 5), counters=counted(0)),
        worker(3.0, busy(0, 999, 95), counters=counted(5000)),
        worker(12.0, IDLE, identity=None, counters=counted(9000)),
    ],
    ids=["identity", "counter", "clock of the node", "task ids"],
)
def test_a_restart_starts_afresh(after: WorkerSample) -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 900, 50), counters=counted(5000)))
    meter.update(worker(11.0, busy(0, 900, 90), counters=counted(5000)))
    rates = meter.update(after)
    assert rates.generation_tokens_per_second is None
    assert rates.prompt_tokens_per_second is None


def test_loading_is_unknown_and_asleep_is_zero() -> None:
    meter = RateMeter()
    meter.update(worker(10.0, busy(0, 1, 50), counters=counted(100)))
    asleep = worker(11.0, slots=None, sleeping=True, counters=counted(170))
    assert meter.update(asleep) == Rates(0.0, 0.0, 170)
    assert meter.update(worker(None, slots=None, health="loading")) == Rates()


def test_a_live_counter_needs_no_slots() -> None:
    meter = RateMeter()
    live = TokenCounters(1000.0, 1.0, 70.0, 1.0, live=True)
    meter.update(worker(10.0, slots=None, engine="vllm", counters=live))
    after = replace(live, generation_tokens_total=1300.0, prompt_tokens_total=90.0)
    rates = meter.update(worker(12.0, slots=None, engine="vllm", counters=after))
    assert rates == Rates(150.0, 10.0, 1300)


def test_a_counter_in_lumps_without_slots_is_averaged() -> None:
    meter = RateMeter()
    shown = []
    for tick in range(30):
        total = 400.0 * (tick // 4)
        shown.append(meter.update(worker(float(tick), slots=None, counters=counted(total))))
    late = [rates.generation_tokens_per_second for rates in shown[15:]]
    assert all(rate is not None and 60 <= rate <= 140 for rate in late)


def test_an_engine_that_counts_nothing_has_no_rates() -> None:
    meter = RateMeter()
    for at in (10.0, 11.0):
        rates = meter.update(worker(at, slots=None, engine="ollama"))
    assert rates == Rates()


counts = st.none() | st.integers(-5, 10**6)
wild_slots = st.builds(
    Slot,
    id=st.integers(0, 3),
    busy=st.booleans(),
    context_tokens=counts,
    task_id=counts,
    prompt_tokens=counts,
    prompt_tokens_processed=counts,
    prompt_tokens_cached=counts,
    generated_tokens=counts,
    remaining_tokens=counts,
)
wild_totals = st.none() | st.floats(0, 1e18)
wild_counters = st.builds(
    TokenCounters,
    generation_tokens_total=wild_totals,
    generation_tokens_step=st.none() | st.sampled_from([1.0, 10.0, 1e3, 1e12]),
    prompt_tokens_total=wild_totals,
    prompt_tokens_step=st.none() | st.sampled_from([1.0, 1e3]),
    live=st.none() | st.booleans(),
)
wild_samples = st.builds(
    WorkerSample,
    unit=st.just("w"),
    health=st.sampled_from(["ok", "loading", "busy", None]),
    sleeping=st.none() | st.booleans(),
    identity=st.sampled_from([None, "1", "2"]),
    slots=st.none() | st.lists(wild_slots, max_size=4).map(tuple),
    counters=wild_counters,
    read_at_seconds=st.none() | st.floats(0, 1e6),
    glances=st.lists(
        st.builds(Glance, st.floats(0, 1e6), st.lists(wild_slots, max_size=2).map(tuple)),
        max_size=2,
    ).map(tuple),
)


@given(st.lists(wild_samples, max_size=12))
def test_whatever_comes_a_rate_is_unknown_or_a_number_not_below_zero(
    samples: list[WorkerSample],
) -> None:
    meter = RateMeter()
    for sample in samples:
        rates = meter.update(sample)
        for rate in (rates.generation_tokens_per_second, rates.prompt_tokens_per_second):
            assert rate is None or (rate >= 0 and math.isfinite(rate))


def test_a_slot_just_given_a_task_still_shows_the_old_counts() -> None:
    """Seen on build 10068: task 1732 over the final counts of task 1519, already in the counter."""
    other = Slot(0, True, 4096, 1432, 288, 29, 0, 260, 64)
    old = Slot(1, True, 4096, 1519, 220, 42, 0, 179, 24)
    meter = RateMeter()
    meter.update(worker(10.0, other, old, counters=counted(5465, 700)))
    other = replace(other, prompt_tokens=312, generated_tokens=284, remaining_tokens=40)
    given_task = Slot(1, True, 4096, 1732, 244, 42, 0, 203, 0)
    rates = meter.update(worker(11.0, other, given_task, counters=counted(5668, 700)))
    assert rates.generation_tokens_per_second == 24 + 24
    assert rates.generation_tokens_total == 5668 + 284
    other = replace(other, prompt_tokens=332, generated_tokens=304, remaining_tokens=20)
    begun = Slot(1, True, 4096, 1732, 81, 62, 0, 20, 42)
    rates = meter.update(worker(12.0, other, begun, counters=counted(5668, 762)))
    assert rates.generation_tokens_per_second == 20 + 20
    assert rates.prompt_tokens_per_second == 62


def test_a_task_whose_text_ended_it_leaves_its_counts_in_the_slot_too() -> None:
    other = Slot(0, True, 4096, 1432, 288, 29, 0, 260, 64)
    old = Slot(1, True, 4096, 1519, 220, 42, 0, 179, 500)
    meter = RateMeter()
    meter.update(worker(10.0, other, old))
    other = replace(other, prompt_tokens=312, generated_tokens=284, remaining_tokens=40)
    given_task = Slot(1, True, 4096, 1732, 230, 42, 0, 189, 490)
    rates = meter.update(worker(11.0, other, given_task))
    assert rates.generation_tokens_per_second == 24 + 10


def test_a_build_whose_prompt_count_stands_still_is_counted_all_the_same() -> None:
    meter = RateMeter()
    rates = []
    for second in range(6):
        slot = Slot(0, True, 4096, 7, 10, 10, 0, 50 * second, None)
        rates.append(meter.update(worker(10.0 + second, slot)).generation_tokens_per_second)
    assert rates[3:] == [50, 50, 50]
    assert sum(rate or 0 for rate in rates) == 250


def test_a_prompt_counter_that_went_down_starts_afresh() -> None:
    meter = RateMeter()
    meter.update(replace(worker(1.0, counters=counted(5, 90)), slots=None))
    rates = meter.update(replace(worker(2.0, counters=counted(5, 10)), slots=None))
    assert rates.prompt_tokens_per_second is None
    rates = meter.update(replace(worker(3.0, counters=counted(5, 30)), slots=None))
    assert rates.prompt_tokens_per_second == 20

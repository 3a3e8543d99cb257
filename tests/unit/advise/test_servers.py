"""llama-servers' rules: each with a case that fires and a near one that does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from llamatop.advise.finding import Finding
from llamatop.advise.servers import RULES, more_slots
from llamatop.model.cluster import ClusterSnapshot, GpuView, WorkerView
from llamatop.model.declared import Cluster, Node
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import GpuSample, Launch, Slot, UnitState, WorkerSample
from tests.unit.advise import test_fitting as fits

GIB = 2**30


def worker(
    short: str = "a",
    *,
    launch: Launch | None = None,
    slot_context: int | None = 4096,
    slots: int = 2,
    model: str | None = "tiny",
    **changes: object,
) -> WorkerView:
    sample = WorkerSample(
        f"{short}.service",
        engine="llama-server",
        health="ok",
        model=model,
        metrics=True,
        pids=(7,),
        launch=launch
        or Launch("process", host="127.0.0.1", parallel=slots, context_tokens=8192, api_key=False),
        slots=tuple(Slot(place, True, slot_context) for place in range(slots)),
        requests_deferred=3,
    )
    view = WorkerView(
        f"n/{short}",
        "n",
        UnitState(f"{short}.service"),
        sample,
        gpus=(0,),
        membership="in",
        members=(("u", f"127.0.0.1:{short}"),),
        slots_busy=slots,
        slots_total=slots,
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # names come from the tests


def sampled(view: WorkerView, **changes: object) -> WorkerView:
    return replace(view, sample=replace(view.sample, **changes))  # type: ignore[arg-type]


def seen(*workers: WorkerView, used: int = 23, total: int = 24) -> ClusterSnapshot:
    card = GpuSample(
        "GPU-0",
        index=0,
        memory_used_bytes=used * GIB,
        memory_total_bytes=total * GIB,
        processes={"7": 8 * GIB},
    )
    return ClusterSnapshot(
        cluster=Cluster("c", (Node("n", ssh="n"),)),
        taken_at=datetime(2026, 11, 21, tzinfo=UTC),
        tick=1,
        workers=workers,
        gpus=(GpuView("n", card, ("n/a",)),),
    )


def found(*workers: WorkerView, used: int = 23) -> list[Finding]:
    snapshot = seen(*workers, used=used)
    return [finding for rule in RULES for finding in rule(snapshot)]


def ids(*workers: WorkerView, used: int = 23) -> list[str]:
    return [one.id for one in found(*workers, used=used)]


def test_a_good_one_gives_no_finding() -> None:
    assert found(worker()) == []


@pytest.mark.parametrize(
    ("host", "api_key", "fires"),
    [
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.5", False, True),
        ("0.0.0.0", True, False),
        ("0.0.0.0", None, False),
        (None, False, False),
        ("127.0.0.2", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("/run/llama.sock", False, False),
    ],
)
def test_who_may_ask(host: str | None, api_key: bool | None, fires: bool) -> None:
    launch = Launch("process", host=host, api_key=api_key)
    assert ids(worker(launch=launch)) == (["llama-server-open"] if fires else [])


def test_metrics_that_are_off() -> None:
    assert ids(sampled(worker(), metrics=False)) == ["llama-server-no-metrics"]
    assert ids(sampled(worker(), metrics=None)) == []
    # it has not come up: nothing it says is its last word
    assert ids(sampled(worker(), metrics=False, health="loading")) == []
    assert ids(sampled(worker(), metrics=False, engine="vllm")) == []


@pytest.mark.parametrize(
    ("asked", "parallel", "slot", "fires"),
    [
        (8192, 2, 4096, False),
        (8192, 2, 2048, True),
        (8192, None, 8192, False),
        (8192, None, 4096, True),
        # rounded up, or one cache for all
        (1000, 3, 512, False),
        (8192, 2, 8192, False),
        (0, 2, 512, False),
        (8192, 2, None, False),
    ],
)
def test_the_context_of_a_slot(
    asked: int, parallel: int | None, slot: int | None, fires: bool
) -> None:
    launch = Launch("process", parallel=parallel, context_tokens=asked)
    findings = found(worker(launch=launch, slot_context=slot))
    assert [one.id for one in findings] == (["llama-server-context"] if fires else [])
    assert all(f"{asked}" in one.evidence and f"{slot}" in one.evidence for one in findings)


def test_an_engine_that_hangs_behind_a_server_that_answers() -> None:
    hung = sampled(worker(age_seconds=61.0), health="busy")
    assert ids(hung) == ["llama-server-stuck"]
    assert ids(replace(hung, age_seconds=59.0)) == []
    assert ids(sampled(hung, health="ok")) == []


def test_a_queue_that_stays() -> None:
    assert ids(worker(queued_seconds=31.0)) == ["llama-server-queue"]
    assert ids(worker(queued_seconds=29.0)) == []
    assert ids(worker(queued_seconds=None)) == []


def test_all_slots_busy_though_memory_would_hold_one_more() -> None:
    full = worker(queued_seconds=60.0)
    both = ["llama-server-queue", "llama-server-more-slots"]
    # 8 GiB for two slots: a third takes at most 4, and a tenth of the card stays free
    assert ids(full, used=17) == both
    assert ids(full, used=18) == both[:1]
    assert ids(replace(full, slots_busy=1), used=10) == both[:1]
    assert ids(replace(full, gpus=None), used=10) == both[:1]
    assert ids(sampled(full, pids=(8,)), used=10) == both[:1]


def test_members_of_one_upstream_differ() -> None:
    two = (worker("a"), worker("b"))
    assert ids(*two) == []
    (finding,) = found(*two, worker("c", model="other"))
    assert (finding.id, finding.place) == ("llama-server-models-differ", "n/c")
    assert "2 of 3 in u: tiny" in finding.evidence
    short = Launch("process", context_tokens=2048, parallel=1)
    (finding,) = found(*two, worker("c", slot_context=2048, launch=short))
    assert (finding.id, finding.place) == ("llama-server-contexts-differ", "n/c")
    # out of the upstream, in another one, or not told
    assert ids(*two, worker("c", model="other", membership="down")) == []
    assert ids(*two, worker("c", model="other", members=(("v", "x"),))) == []
    assert ids(*two, worker("c", model=None)) == []


def test_members_that_do_not_all_ask_for_a_key() -> None:
    def asking(name: str, api_key: bool | None, **changes: object) -> WorkerView:
        return worker(name, launch=Launch("process", api_key=api_key), **changes)

    open_ones = (asking("a", False), asking("b", False))
    (finding,) = found(*open_ones, asking("c", True))
    assert (finding.id, finding.place) == ("llama-server-keys-differ", "n/c")
    # clients that always send it, or an nginx that adds it, are refused nowhere
    assert finding.severity == "info"
    assert "it asks for an API key; 2 of 3 in u: asks for no API key" in finding.evidence
    refused = sampled(asking("c", False), health="unauthorized", slots=None)
    assert ids(*open_ones, refused) == ["llama-server-keys-differ"]
    assert ids(*open_ones, asking("c", None)) == []
    assert ids(*open_ones, asking("c", True, members=(("v", "x"),))) == []
    assert ids(asking("a", True), asking("b", True)) == []


def test_an_alias_of_its_own_is_no_other_model() -> None:
    one, two = (
        worker(name, model=name, launch=Launch("process", model=f"/{name}/m.gguf"))
        for name in ("a", "b")
    )
    assert ids(one, two) == []


def waiting(total: int, file: ModelFile | None = fits.FILE) -> ClusterSnapshot:
    """A worker with all its slots busy and a queue, alone on a card of so many bytes."""
    view = fits.worker((0,))
    needs = fits.judged(view, (fits.card(0),)).needs
    assert needs is not None
    sample = replace(view.sample, requests_deferred=3)
    view = replace(view, sample=sample, slots_total=4, slots_busy=4, queued_seconds=120.0)
    return fits.cluster(view, (fits.card(0, total, needs.cards[0].total),), file)


def test_one_slot_more_is_offered_where_the_model_with_it_would_fit() -> None:
    needs = fits.judged(fits.worker((0,)), (fits.card(0),)).needs
    assert needs is not None
    taken = needs.cards[0].total
    slot = 8192 * 57344
    (one,) = list(more_slots(waiting(taken + slot + 2**26)))
    assert "GPU 0 has room for 5" in one.evidence
    assert one.why == "the model with one more slot, its cache and all, would fit there"
    assert list(more_slots(waiting(taken + slot - 2**26))) == []
    # where nothing is known of the model, that much is not surely enough
    assert list(more_slots(waiting(taken + slot + 2**26, None))) == []

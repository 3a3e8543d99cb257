"""A split that one card would hold: told where all is known, and only there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.advise import fitting
from llamatop.advise.fit import MARGIN_BYTES, Fit, fit
from llamatop.app.render import fit as render
from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, WorkerView
from llamatop.model.declared import Cluster, Node
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import (
    GpuSample,
    Launch,
    NodeSnapshot,
    Slot,
    UnitState,
    WorkerSample,
)
from llamatop.record.document import Encoder
from llamatop.record.restore import Decoder

GIGABYTE = 2**30
PATH = "/srv/models/qwen2.5-7b-instruct-q4_k_m.gguf"
# 28 layers of 146 MiB, a key and a value of 512 elements each: 56 KiB a token
FILE = ModelFile(
    PATH,
    files=1,
    size_bytes=4_683_073_536,
    architecture="qwen2",
    layers=28,
    context_tokens=32768,
    embedding_length=3584,
    vocabulary=152064,
    heads=(28,),
    heads_kv=(4,),
    feed_forward_length=(18944,),
    embedding_bytes=306_561_024,
    output_bytes=447_068_160,
    other_bytes=14_336,
    layer_bytes=(140_336_786,) * 28,
)
OVERHEAD = 400 * 2**20


def card(index: int, total: int = 24 * GIGABYTE, own: int | None = None, used: int = 0) -> GpuView:
    processes = None if own is None else {"100": own}
    sample = GpuSample(
        f"GPU-{index}",
        index=index,
        memory_used_bytes=used + (own or 0),
        memory_total_bytes=total,
        processes=processes,
    )
    return GpuView("node1", sample, ("node1/gpu0",))


def worker(gpus: tuple[int, ...] = (0, 1), **launch: object) -> WorkerView:
    told = {"source": "process", "model": PATH, "parallel": 4, **launch}
    sample = WorkerSample(
        "llama-server-gpu0.service",
        "llama-server",
        health="ok",
        pids=(100,),
        launch=Launch(**told),  # type: ignore[arg-type]
        slots=tuple(Slot(place, False, 8192) for place in range(4)),
    )
    unit = UnitState(sample.unit, "worker")
    topology = "layer-split" if len(gpus) > 1 else "per-gpu"
    return WorkerView("node1/gpu0", "node1", unit, sample, gpus, "nvml", topology)


def cluster(
    view: WorkerView, cards: tuple[GpuView, ...], file: ModelFile | None = FILE
) -> ClusterSnapshot:
    models = {} if file is None else {PATH: file}
    node = NodeSnapshot("node1", reachable=True, models=models)
    return ClusterSnapshot(
        Cluster("test", (Node("node1"),)),
        datetime(2026, 11, 21, tzinfo=UTC),
        1,
        nodes=(NodeView("node1", node, True, 0.0),),
        gpus=cards,
        workers=(view,),
    )


def judged(view: WorkerView, cards: tuple[GpuView, ...]) -> Fit:
    found = fit(view, FILE, cards)
    assert found is not None
    return found


def running(total: int = 24 * GIGABYTE) -> tuple[GpuView, ...]:
    """Two cards with what the split takes on each, and an overhead."""
    needs = judged(worker(), (card(0), card(1))).needs
    assert needs is not None
    return tuple(
        card(place, total, part.total + OVERHEAD) for place, part in enumerate(needs.cards)
    )


def test_a_split_that_one_card_would_hold_is_found_with_its_figures() -> None:
    (found,) = fitting.split(cluster(worker(), running()))
    assert (found.id, found.place) == ("split-fits-one-card", "node1/gpu0")
    assert "split over GPU 0 + 1" in found.evidence
    assert "4 slots of 8192" in found.evidence
    assert "weights 4.1G + KV 1.8G + compute 147M + overhead 400M = 6.4G of 24.0G" in found.evidence
    assert "50 % at most" in found.why


def test_the_near_case_that_a_card_would_not_hold_is_none() -> None:
    found = judged(worker(), running())
    assert found.alone is not None
    just = found.alone.total + OVERHEAD
    assert list(fitting.split(cluster(worker(), running(just + 2**20))))
    assert not list(fitting.split(cluster(worker(), running(just - 2**20))))


def test_memory_that_others_take_on_both_cards_is_not_there_for_it() -> None:
    cards = tuple(
        replace(
            one,
            sample=replace(
                one.sample, memory_used_bytes=(one.sample.memory_used_bytes or 0) + 18 * GIGABYTE
            ),
        )
        for one in running()
    )
    assert not list(fitting.split(cluster(worker(), cards)))


@pytest.mark.parametrize(
    ("view", "file", "said"),
    [
        (worker(), None, "the header of its model's file"),
        (worker(), ModelFile(PATH, fault="this user may not read it"), "this user may not"),
        (worker(), replace(FILE, architecture="tomorrow"), "how a model of architecture tomorrow"),
        (worker(extras=("--mmproj",)), FILE, "what --mmproj adds or moves"),
        (worker(cache_type_k="turbo3"), FILE, "how large a cache of turbo3 is"),
        (worker(split_mode="tensor"), FILE, "how --split-mode tensor lays out a model"),
        (worker(tensor_split="1,x"), FILE, "what its --tensor-split gives each card"),
        (worker(gpu_layers="some"), FILE, "how many layers lie on its cards"),
    ],
)
def test_what_is_unknown_is_named_and_no_finding(
    view: WorkerView, file: ModelFile | None, said: str
) -> None:
    found = fit(view, file, running())
    assert found is not None
    assert found.fits is None
    assert any(said in one for one in found.missing)
    assert not list(fitting.split(cluster(view, running(), file)))


def test_a_process_that_takes_less_than_its_parts_is_not_understood() -> None:
    found = judged(worker(), (card(0, own=GIGABYTE), card(1, own=GIGABYTE)))
    assert found.missing
    assert found.fits is None


def test_compressed_keys_are_reckoned_where_the_build_is_not_too_old() -> None:
    latent = replace(
        FILE,
        architecture="deepseek2",
        heads_kv=(1,),
        key_length=576,
        value_length=512,
        key_length_latent=192,
    )
    view = worker((0,))

    def by(build: str) -> Fit:
        old = replace(view, sample=replace(view.sample, build=build))
        found = fit(old, latent, (card(0),))
        assert found is not None
        return found

    found = by("b10068-571d0d5")
    assert found.alone is not None
    assert found.alone.cache == 28 * 4 * 8192 * 576 * 2
    assert by("b6000-abc").missing == ("how a build as old as b6000 caches compressed keys",)


def test_overhead_is_learnt_and_else_a_gibibyte_is_left() -> None:
    assert judged(worker(), running()).spare_bytes == OVERHEAD
    hidden = judged(worker(), (card(0), card(1)))
    assert hidden.overhead_bytes is None
    assert hidden.spare_bytes == MARGIN_BYTES


def test_slots_and_context_fill_the_card_and_no_more() -> None:
    found = judged(worker(), running())
    slots, context = found.slots_fit(), found.context_fits()
    assert slots is not None
    assert context is not None
    a_slot = 8192 * 57344
    spare = 24 * GIGABYTE - 6.4 * GIGABYTE
    assert slots == pytest.approx(4 + spare / a_slot, abs=1)
    assert context == pytest.approx(8192 + spare / 4 / 57344, abs=1024)


def test_other_engines_and_the_processor_have_no_fit() -> None:
    view = worker()
    ollama = replace(view, sample=replace(view.sample, engine="ollama"))
    assert fit(ollama, FILE, running()) is None
    assert fit(replace(view, gpus=()), FILE, running()) is None


def shown(view: WorkerView, cards: tuple[GpuView, ...]) -> str:
    return "\n".join(f"{label}: {value}" for label, value, _ in render.facts(view, FILE, cards))


def test_the_panel_says_what_it_takes_whether_it_fits_and_what_a_split_costs() -> None:
    said = shown(worker(), running())
    assert "memory: weights 4.1G + KV 1.8G + compute 147M + overhead 400M = 6.4G of 24.0G" in said
    assert "fit: one card: yes, 4 slots × 8192 (room for 44)" in said
    assert "split: each card busy 50 % at most with one stream" in said


def test_the_panel_of_a_small_card_says_what_would_fit() -> None:
    said = shown(worker(), running(6 * GIGABYTE))
    assert "one card: no, 4 slots × 8192 (room for 3)" in said
    said = shown(worker(), running(4 * GIGABYTE))
    assert "one card: no, 4 slots × 8192 (no room with any context)" in said


def test_the_panel_says_who_shares_a_context_and_which_would_have_room() -> None:
    sharing = worker((0,), parallel=None, kv_unified=True)
    said = shown(sharing, (card(0),))
    assert "its card: yes, 4 slots sharing 8192 (room for 42 with 8192 each)" in said
    small = judged(worker((0,)), (card(0),))
    assert small.alone is not None
    tight = small.alone.weights + 2**30 + 300 * 2**20
    assert "(room for 512 tokens each)" in shown(worker((0,)), (card(0, tight),))


def test_the_panel_names_what_is_missing_and_is_silent_without_a_file() -> None:
    assert "not known: what --lora adds or moves" in shown(worker(extras=("--lora",)), running())
    assert render.facts(worker(), None, running()) == []


def test_a_split_has_one_line_for_the_screen_of_cards() -> None:
    said = render.note(worker(), FILE, running()) or ""
    assert said.startswith("fits one card: yes, 4 slots × 8192 (room for 44) · 6.4G of 24.0G")
    assert render.note(worker(), None, running()) is None
    assert render.note(worker(extras=("--lora",)), FILE, running()) is None


def test_the_rule_reads_a_fleet_of_splits_in_a_moment() -> None:
    view, cards = worker(), running()
    snapshot = cluster(view, cards)
    many = tuple(replace(view, name=f"node1/w{number}") for number in range(512))
    assert len(list(fitting.split(replace(snapshot, workers=many)))) == 512


def test_names_of_files_are_data() -> None:
    hostile = replace(FILE, fault="\x1b[31m[bold]" + str(Path("/x")))
    said = render.facts(worker(), hostile, running())
    assert "\x1b" not in said[0][1]


def test_a_recording_says_it_again() -> None:
    before = cluster(worker(), running())
    document = json.loads(json.dumps(Encoder(str).document(before)))
    after = Decoder().snapshot(document, before.taken_at, 1, ())
    assert after.nodes[0].snapshot.models == {PATH: FILE}
    said = render.note(after.workers[0], after.nodes[0].snapshot.models[PATH], after.gpus) or ""
    assert said == render.note(worker(), FILE, running())
    assert list(fitting.split(after)) == list(fitting.split(before))
    assert list(fitting.split(after))


def test_a_recording_without_processes_says_what_it_can() -> None:
    before = cluster(worker(), (card(0, used=4 * GIGABYTE), card(1, used=4 * GIGABYTE)))
    (view,) = before.workers
    old = replace(before, workers=(replace(view, sample=replace(view.sample, pids=None)),))
    document = json.loads(json.dumps(Encoder(str).document(old)))
    after = Decoder().snapshot(document, before.taken_at, 1, ())
    # which process takes what is not there: a gibibyte is left free instead
    said = render.note(after.workers[0], FILE, after.gpus) or ""
    assert said.startswith("fits one card: yes, 4 slots × 8192 (room for 40)")


@pytest.mark.parametrize(
    "state", [("inactive", "dead"), ("failed", "failed"), ("activating", "auto-restart")]
)
def test_a_stopped_worker_is_judged_by_what_it_was_told_and_what_is_free(
    state: tuple[str, str],
) -> None:
    view = worker(context_tokens=32768)
    # the probe tells no pids of a unit that does not run
    sample = replace(view.sample, pids=None, health=None, slots=None, slots_total=None)
    unit = replace(view.unit, active_state=state[0], sub_state=state[1])
    stopped = replace(view, sample=sample, unit=unit)
    found = judged(stopped, (card(0, used=20 * GIGABYTE), card(1, used=8 * GIGABYTE)))
    assert (found.card, found.room_bytes) == (1, 16 * GIGABYTE)
    assert found.overhead_bytes is None
    assert found.fits is True
    assert judged(stopped, (card(0, used=20 * GIGABYTE),) * 2).fits is False


def test_a_worker_that_loads_is_not_taken_for_one_that_needs_little() -> None:
    cards = (card(0, own=GIGABYTE), card(1, own=GIGABYTE))
    loading = worker()
    loading = replace(loading, sample=replace(loading.sample, health="loading"))
    assert judged(loading, cards).fits is True
    assert judged(loading, cards).overhead_bytes is None
    assert judged(worker(), cards).fits is None

"""What is probably not meant: models on the CPU, models that a sibling lacks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from llamatop.collect import hints as module
from llamatop.collect.hints import Hints
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.observed import GpuSample, LoadedModel, UnitState, WorkerSample

GIB = 2**30
CARD = (GpuView("a", GpuSample("G0", index=0)),)
FITS = LoadedModel("small:1b", size_bytes=2 * GIB, gpu_bytes=2 * GIB)
ALONE = LoadedModel("small:1b", size_bytes=2 * GIB, gpu_bytes=0)
PART = LoadedModel("large:32b", size_bytes=20 * GIB, gpu_bytes=12 * GIB)


def ollama(
    name: str,
    *loaded: LoadedModel,
    present: dict[str, str] | None = None,
    upstream: str | None = "llm",
) -> WorkerView:
    sample = WorkerSample("ollama.service", engine="ollama", loaded=loaded, present=present)
    members = ((upstream, f"{name}:11434"),) if upstream else ()
    return WorkerView(f"{name}/ollama", name, UnitState("ollama.service"), sample, members=members)


def said(*workers: WorkerView, gpus: tuple[GpuView, ...] = CARD) -> list[tuple[str, ...]]:
    return [worker.hints for worker in Hints().add(workers, gpus)]


def test_a_model_on_the_cpu_of_a_node_with_cards() -> None:
    (worker,) = Hints().add((ollama("a", FITS, PART),), CARD)
    (hint,) = worker.hints
    assert hint.startswith("40 % of large:32b runs on the CPU (8.0G of 20.0G)")
    assert worker.spilled_percent == pytest.approx(40)
    ((alone,),) = said(ollama("a", ALONE))
    assert alone.startswith("small:1b runs on the CPU alone")


@pytest.mark.parametrize(
    "model",
    [
        FITS,
        replace(FITS, gpu_bytes=2 * GIB - 10 * 2**20),
        replace(ALONE, gpu_layers="0"),
        replace(ALONE, loading=True),
        replace(ALONE, size_bytes=None),
        replace(ALONE, gpu_bytes=None),
    ],
    ids=["on the card", "but for a buffer", "as its user chose", "loads", "size?", "where?"],
)
def test_what_is_meant_or_not_known_is_no_hint(model: LoadedModel) -> None:
    (worker,) = Hints().add((ollama("a", model),), CARD)
    assert worker.hints == ()
    assert worker.spilled_percent is None


def test_without_a_card_the_cpu_is_what_is_meant() -> None:
    assert said(ollama("a", ALONE), gpus=()) == [()]
    assert said(ollama("b", ALONE)) == [()], "the card is another node's"


def test_a_sibling_that_lacks_a_model() -> None:
    first = ollama("a", present={"x:1b": "aa", "y:7b": "bb", "z:9b": ""})
    second = ollama("b", present={"x:1b": "ff", "z:9b": "cc"})
    stranger = ollama("c", present={}, upstream="other")
    alone = ollama("d", present={}, upstream=None)
    unread = ollama("e", present=None)
    ours, theirs, *rest = said(first, second, stranger, alone, unread)
    assert ours == ("has another version of x:1b than b/ollama",)
    assert theirs[0].startswith("lacks y:7b, which a/ollama has")
    assert "ollama pull y:7b" in theirs[0]
    assert theirs[1] == "has another version of x:1b than a/ollama"
    assert rest == [(), (), ()]


def test_many_that_are_lacking_are_counted() -> None:
    models = {f"m{number}:1b": "" for number in range(9)}
    _, (hint,) = said(ollama("a", present=models), ollama("b", present={}))
    assert hint.startswith("lacks m0:1b, m1:1b, m2:1b and 6 more, which")


def plainly(worker: WorkerView, workers: Sequence[WorkerView]) -> tuple[dict[str, str], ...]:
    """What each sibling has that this one lacks, or has otherwise: one pair after the other."""
    missing: dict[str, str] = {}
    other: dict[str, str] = {}
    mine = worker.sample.present or {}
    for sibling in workers:
        if sibling is worker or not set(worker.members) & set(sibling.members):
            continue
        for model, digest in (sibling.sample.present or {}).items():
            if model not in mine:
                missing.setdefault(model, sibling.name)
            elif digest and mine[model] and digest != mine[model]:
                other.setdefault(model, sibling.name)
    return missing, other


def test_many_siblings_are_told_as_pairs_would_be() -> None:
    chance = random.Random(7)
    for _ in range(60):
        workers = []
        for number in range(8):
            models = chance.sample([f"m{one}:1b" for one in range(7)], chance.randrange(8))
            present = {model: chance.choice(["", "aa", "bb", "cc"]) for model in models}
            member = (("llm", "x"), ("other", "x"), ("third", "x"))
            members = tuple(chance.sample(member, chance.randrange(1, 3)))
            workers.append(replace(ollama(f"n{number}", present=present), members=members))
        for worker, hints in zip(workers, said(*workers), strict=True):
            missing, other = plainly(worker, workers)
            wanted = []
            if missing:
                named, sibling = module._listed(missing), next(iter(missing.values()))
                wanted.append(f"lacks {named}, which {sibling} has: requests for it fail here;")
            if other:
                named, sibling = module._listed(other), next(iter(other.values()))
                wanted.append(f"has another version of {named} than {sibling}")
            assert len(hints) == len(wanted)
            assert all(map(str.startswith, hints, wanted)), (hints, wanted)


class Counted(dict[str, str]):
    """A disk's models, which count how often they are gone through."""

    reads = 0

    def items(self) -> Any:
        Counted.reads += 1
        return super().items()


def test_each_disk_is_gone_through_once_however_many_siblings_there_are() -> None:
    disks = [Counted({"x:1b": "aa", f"y{number}:1b": "bb"}) for number in range(40)]
    workers = [ollama(f"n{number}", present=disk) for number, disk in enumerate(disks)]
    Counted.reads = 0
    assert all(said(*workers))
    assert Counted.reads < 3 * len(disks)


def test_siblings_are_compared_when_they_change_and_not_at_every_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    real = module._differing

    def counted(peers: list[module.Peer]) -> dict[str, tuple[str, ...]]:
        compared.append(peers)
        return real(peers)

    monkeypatch.setattr(module, "_differing", counted)
    adding = Hints()
    workers = (ollama("a", present={"x:1b": "aa"}), ollama("b", present={}))
    for _ in range(5):
        assert adding.add(workers, CARD)[1].hints
    assert len(compared) == 1
    mended = (workers[0], ollama("b", present={"x:1b": "aa"}))
    assert adding.add(mended, CARD)[1].hints == ()
    assert len(compared) == 2


def test_other_engines_pass_as_they_are() -> None:
    sample = WorkerSample("x", engine="llama-server")
    workers = (WorkerView("a/x", "a", UnitState("x"), sample),)
    assert Hints().add(workers, CARD) is workers

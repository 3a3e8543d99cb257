"""What is reckoned of a model's memory, beside what a real llama-server said that it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.advise import fit, memory, shapes
from llamatop.model.gguf import ModelFile
from tests.unit.advise import allocations
from tests.unit.advise.allocations import MEBIBYTE, TOLERANCE

CASES = Path(__file__).parents[2] / "cases/llama_server/memory"
MODELS = json.loads((CASES / "models.json").read_text())


def names(kind: str) -> list[str]:
    return sorted(path.stem for path in CASES.glob(f"{kind}-*.log"))


def case(name: str) -> tuple[str, ModelFile, allocations.Allocated]:
    """The arguments, the model's header and what was allocated."""
    log = (CASES / f"{name}.log").read_text()
    shape, _, arguments = log.partition("\n")[0].removeprefix("# ").partition(" ")
    file = allocations.summarized({"path": f"/{shape}.gguf", **MODELS[shape]})
    return arguments, file, allocations.allocated(log)


def reckoned(
    file: ModelFile, arguments: str, seen: allocations.Allocated
) -> tuple[shapes.Shape, memory.Demand]:
    shape, missing = shapes.of(file)
    demand, unasked = fit.asked(allocations.sample(arguments, seen))
    assert shape is not None, missing
    assert demand is not None, unasked
    return shape, demand


def test_the_cases_are_of_every_combination() -> None:
    first = [(CASES / f"{name}.log").read_text().partition("\n")[0] for name in names("cpu")]
    assert sorted(first) == sorted(f"# {one}" for one in allocations.COMBINATIONS)


@pytest.mark.parametrize("name", names("cpu"))
def test_the_sum_is_what_a_server_on_the_processor_allocates(name: str) -> None:
    arguments, file, seen = case(name)
    host = memory.needs(*reckoned(file, arguments, seen), memory.CPU).host
    assert host.total / MEBIBYTE == pytest.approx(seen.total(), rel=TOLERANCE)
    cache = seen.buffers.get(("CPU", "KV"), 0.0) + seen.buffers.get(("CPU", "RS"), 0.0)
    assert host.cache / MEBIBYTE == pytest.approx(cache, abs=0.02)


@pytest.mark.parametrize("name", names("cards"))
def test_each_card_gets_what_a_server_puts_there(name: str) -> None:
    """Vulkan devices stand for CUDA's: the layout is llama.cpp's, not the driver's."""
    arguments, file, seen = case(name)
    worker = allocations.sample(arguments, seen)
    places = sorted(
        {place for place, _ in seen.buffers if place.startswith("Vulkan") and place[-1].isdigit()}
    )
    shares = tuple(float(one) for one in (worker.launch.tensor_split or "1,1").split(","))
    layers = worker.launch.gpu_layers
    split = memory.Split(shares[: len(places)], int(layers) if layers else None)
    needs = memory.needs(*reckoned(file, arguments, seen), split)
    assert len(needs.cards) == len(places)
    for place, card in zip(places, needs.cards, strict=True):
        assert card.weights / MEBIBYTE == pytest.approx(seen.buffers[place, "model"], abs=0.05)
        assert card.cache / MEBIBYTE == pytest.approx(seen.buffers[place, "KV"], abs=0.02)
    if layers:
        return  # what the processor's layers borrow of a card for a batch is not reckoned
    whole = needs.on_cards.total / MEBIBYTE
    assert whole == pytest.approx(seen.total(*places), rel=TOLERANCE)


def test_the_context_is_rounded_up_and_shared_or_not() -> None:
    _, file, _ = case("cpu-01-gqa")
    shape, _ = shapes.of(file)
    assert shape is not None
    asked = memory.Demand(4, 1000, outputs=4)
    each = memory.needs(shape, asked, memory.CPU).host.cache
    assert each == 8 * 1024 * 4 * (128 + 128) * 2
    assert memory.needs(shape, replace(asked, unified=True), memory.CPU).host.cache == each // 4


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"architecture": "llama-of-tomorrow"}, "how a model of architecture llama-of-tomorrow"),
        ({"architecture": None}, "the model's architecture"),
        ({"layers": None}, "the number of layers"),
        ({"heads": None}, "the number of heads"),
        ({"heads": (16, 16)}, "the number of heads"),
        ({"layer_bytes": (1, 2)}, "the sizes of all layers"),
        # what a header claims is no size of anything here
        ({"layers": 2**62}, "the sizes of all layers"),
        ({"layers": 2**62, "layer_bytes": None}, "the sizes of the tensors"),
        ({"layers": -1}, "the sizes of all layers"),
        ({"architecture": "deepseek2", "draft_layers": 2**62}, "the sizes of all layers"),
        ({"architecture": "deepseek2", "draft_layers": -1}, "the sizes of all layers"),
        ({"embedding_length": None}, "the width of the embedding"),
        ({"draft_layers": 1}, "how this kind of llama caches"),
        ({"key_length_latent": 192}, "how this kind of llama caches"),
        ({"architecture": "lfm2", "window_tokens": 512}, "how this kind of lfm2 caches"),
        ({"architecture": "lfm2"}, "the length of the convolution"),
        ({"architecture": "qwen3next"}, "the size of the recurrent state"),
    ],
)
def test_what_is_not_known_is_named_and_nothing_guessed(
    changed: dict[str, object], missing: str
) -> None:
    _, file, _ = case("cpu-01-gqa")
    assert shapes.of(file)[1] == ()
    shape, said = shapes.of(replace(file, **changed))  # type: ignore[arg-type]
    assert shape is None
    assert any(one.startswith(missing) for one in said)


def test_windows_follow_the_period_the_file_or_each_layer_has() -> None:
    _, file, _ = case("cpu-06-window")

    def full(changed: ModelFile) -> list[int]:
        shape, _ = shapes.of(changed)
        assert shape is not None
        return [place for place, layer in enumerate(shape.layers) if layer.window is None]

    assert full(file) == [5, 11]
    assert full(replace(file, window_pattern=(3,))) == [2, 5, 8, 11]
    assert full(replace(file, window_pattern=(0, 1) * 6)) == [0, 2, 4, 6, 8, 10]
    assert full(replace(file, window_tokens=None)) == list(range(12))

"""Which cards a worker is on: from the driver's pids, else from its environment."""

from __future__ import annotations

from typing import Any

import pytest

from llamatop.collect.decode import Decoder
from llamatop.collect.placement import Placement, place, visible_devices
from llamatop.model.observed import GpuSample

from .fakes import gpu, worker

GPUS = {
    "GPU-8aa11111-0000": GpuSample("GPU-8aa11111-0000", index=0),
    "GPU-8ab22222-0000": GpuSample("GPU-8ab22222-0000", index=1),
}


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        ("0", (0,)),
        ("1,0", (1, 0)),
        (" 0 , 1 ", (0, 1)),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", (0,)),
        ("NoDevFiles", ()),
        ("GPU-8aa11111-0000", (0,)),
        ("GPU-8ab", (1,)),
        ("GPU-8a", None),
        ("GPU-ffff", None),
        ("MIG-GPU-8ab22222-0000/3/0", (1,)),
        ("MIG-5d5a", None),
        ("0,0", (0,)),
    ],
)
def test_cuda_visible_devices(value: str, indices: tuple[int, ...] | None) -> None:
    assert visible_devices(value, GPUS) == indices


def placed(
    workers: dict[str, dict[str, Any]], gpus: dict[str, dict[str, Any]], **more: Any
) -> dict[str, Placement]:
    document = {"workers": workers, "gpus": gpus, **more}
    return place(Decoder("n").snapshot(document, 0.0))


def launched(visible: str | None = None, pid: int = 5, **launch: Any) -> dict[str, Any]:
    given = {"source": "process", **launch}
    if visible is not None:
        given["cuda_visible_devices"] = visible
    return worker(pids=[pid] if pid else None, launch=given)


def test_the_drivers_pids_win_over_the_environment() -> None:
    found = placed({"a": launched("0")}, {"G0": gpu(0), "G1": gpu(1, 5)})
    assert found["a"] == Placement((1,), "nvml", "per-gpu")


def test_a_stopped_worker_is_where_its_unit_puts_it() -> None:
    found = placed({"a": launched("1", pid=0)}, {"G0": gpu(0), "G1": gpu(1)})
    assert found["a"] == Placement((1,), "environment", "per-gpu")


def test_one_process_on_two_cards() -> None:
    cards = {"G0": gpu(0, 5), "G1": gpu(1, 5)}
    assert placed({"a": launched()}, cards)["a"] == Placement((0, 1), "nvml", "layer-split")
    row = placed({"a": launched(split_mode="row")}, cards)
    assert row["a"].topology == "tensor-split"
    weighted = placed({"a": launched(tensor_split="3,1", split_mode="layer")}, cards)
    assert weighted["a"].topology == "layer-split"
    assert placed({"a": launched(tensor_parallel=2)}, cards)["a"].topology == "tensor-split"


def test_two_processes_on_one_card_share_it() -> None:
    found = placed({"a": launched(), "b": launched(pid=6)}, {"G0": gpu(0, 5, 6)})
    assert {one.topology for one in found.values()} == {"shared"}


def test_a_stopped_worker_shares_nothing() -> None:
    found = placed({"a": launched("0"), "b": launched("0", pid=0)}, {"G0": gpu(0, 5)})
    assert found["a"].topology == "per-gpu"


def test_the_cpu() -> None:
    cards = {"G0": gpu(0, 99)}
    assert placed({"a": launched("")}, cards)["a"] == Placement((), "environment", "cpu")
    assert placed({"a": launched("-1")}, cards)["a"].topology == "cpu"
    assert placed({"a": launched("0", gpu_layers="0")}, cards)["a"].topology == "cpu"
    assert placed({"a": launched("0", devices="none")}, cards)["a"].topology == "cpu"
    assert placed({"a": launched()}, {})["a"].topology == "cpu"


def test_unknown_stays_unknown() -> None:
    lost = placed({"a": launched()}, {}, faults={"gpus": "no driver"})
    assert lost["a"] == Placement(None, None, None)
    hidden = placed({"a": launched()}, {"G0": gpu(0) | {"processes": None}})
    assert hidden["a"] == Placement(None, None, None)


def test_the_devices_of_the_command_line_are_among_the_visible_ones() -> None:
    cards = {"G0": gpu(0), "G1": gpu(1)}
    found = placed({"a": launched("1,0", devices="CUDA1")}, cards)
    assert found["a"].gpus == (0,)
    found = placed({"a": launched("0,1", split_mode="none", main_gpu=1)}, cards)
    assert found["a"] == Placement((1,), "environment", "per-gpu")


def ollama(*gpu_bytes: int, visible: str | None = None) -> dict[str, Any]:
    loaded = {f"m{place}": {"size_bytes": 9, "gpu_bytes": n} for place, n in enumerate(gpu_bytes)}
    return {**launched(visible), "engine": "ollama", "loaded": loaded}


def test_an_ollama_with_nothing_loaded_is_not_on_the_cpu() -> None:
    """The driver shows another's process and none of this one: that tells nothing yet."""
    cards = {"G0": gpu(0), "G1": gpu(1, 7)}
    assert placed({"a": ollama()}, cards)["a"] == Placement(None, None, None)
    assert placed({"a": ollama(visible="0")}, cards)["a"].gpus == (0,)
    assert placed({"a": ollama(9)}, cards)["a"].topology == "cpu"


def test_an_ollama_says_that_it_computes_on_the_cpu() -> None:
    cards = {"G0": gpu(0), "G1": gpu(1)}
    assert placed({"a": ollama(0, 0, visible="0")}, cards)["a"] == Placement((), None, "cpu")
    assert placed({"a": ollama(0, 9, visible="0")}, cards)["a"].gpus == (0,)
    assert placed({"a": ollama(0)}, {"G0": gpu(0, 5)})["a"].gpus == (0,), "the driver knows better"

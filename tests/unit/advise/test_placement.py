"""Rules about who is on which cards: each with a case that fires and near ones that must not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamatop.advise import placement
from llamatop.advise.finding import Rule
from llamatop.advise.fit import MARGIN_BYTES
from llamatop.model.cluster import ClusterSnapshot, GpuView, Membership
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import Health
from tests.unit.advise.boards import GIB, found, told, with_card, with_worker
from tests.unit.advise.test_fitting import FILE, card, cluster, judged, worker

MIXED = with_card(1, name="Tesla P100-PCIE-16GB")
SHARING = with_worker(1, launch={"cuda_visible_devices": "0"}, gpus=(0,))
FREE = with_card(1, SHARING, workers=(), processes={})
ALL: dict[str, str | None] = {"cuda_visible_devices": None}
BOTH = ("node1/gpu0", "node1/gpu1")

FIRING: list[tuple[Rule, ClusterSnapshot, str, str, str]] = [
    (
        placement.missing,
        with_worker(launch=ALL, gpus=(0, 1)),
        "node1/gpu0",
        "warning",
        "on a node with 2 cards and 2 workers",
    ),
    (
        placement.missing,
        with_worker(launch={**ALL, "tensor_split": "3,1"}, gpus=(0, 1)),
        "node1/gpu0",
        "warning",
        "on a node with 2 cards and 2 workers",
    ),
    (
        placement.missing,
        with_worker(launch={**ALL, "tensor_split": "0,0"}, gpus=(0, 1)),
        "node1/gpu0",
        "warning",
        "on a node with 2 cards and 2 workers",
    ),
    (
        placement.repeated,
        with_worker(2, launch={"cuda_visible_devices": "1,1"}),
        "node2/big",
        "error",
        "CUDA_VISIBLE_DEVICES=1,1 names a card twice",
    ),
    (
        placement.repeated,
        with_worker(2, launch={"cuda_visible_devices": "1,GPU-node2-1"}),
        "node2/big",
        "error",
        "names a card twice",
    ),
    (
        placement.repeated,
        FREE,
        "node1/gpu1",
        "warning",
        "CUDA_VISIBLE_DEVICES=0, as node1/gpu0 has; no worker is on GPU1",
    ),
    (
        placement.unknown,
        with_worker(launch={"cuda_visible_devices": "0,7"}),
        "node1/gpu0",
        "error",
        "no card here is 7 (there are 0, 1)",
    ),
    (
        placement.unknown,
        with_worker(launch={"cuda_visible_devices": "GPU-elsewhere"}),
        "node1/gpu0",
        "error",
        "no card here is GPU-elsewhere",
    ),
    (
        placement.crowded,
        with_card(workers=BOTH, memory_used_bytes=int(23.5 * GIB)),
        "node1:GPU0",
        "warning",
        "23.5G of 24.0G used by node1/gpu0, node1/gpu1",
    ),
    (
        placement.order,
        with_worker(1, MIXED, launch={"cuda_visible_devices": None}),
        "node1/gpu0",
        "warning",
        "CUDA_DEVICE_ORDER is not set, cards are Tesla P100-PCIE-16GB, Tesla P40",
    ),
    (
        placement.unlike,
        with_card(3, name="Tesla P100-PCIE-16GB"),
        "node2/big",
        "warning",
        "layer-split over GPU0 Tesla P40, GPU1 Tesla P100-PCIE-16GB",
    ),
    (
        placement.affinity,
        with_worker(confines={"cpus": "16-23,31"}),
        "node1/gpu0",
        "warning",
        "held to processors 16-23,31; its cards are on NUMA node 0",
    ),
    (
        placement.affinity,
        with_worker(confines={"memory_nodes": "1"}),
        "node1/gpu0",
        "warning",
        "held to memory of NUMA node 1; its cards are on NUMA node 0",
    ),
]

SILENT: list[tuple[Rule, ClusterSnapshot]] = [
    (placement.missing, with_worker(2, launch=ALL)),
    # In a container that was given one card, and beside a worker that computes on the CPU.
    (placement.missing, with_worker(launch=ALL, gpus=(0,))),
    (placement.missing, with_worker(1, with_worker(launch=ALL, gpus=(0, 1)), gpus=())),
    (
        placement.missing,
        with_worker(launch={"cuda_visible_devices": None, "environment_known": None}),
    ),
    (placement.missing, with_worker(launch={"cuda_visible_devices": None, "devices": "CUDA1"})),
    (placement.missing, with_worker(launch={"cuda_visible_devices": None, "gpu_layers": "0"})),
    (placement.missing, with_worker(launch={"cuda_visible_devices": None}, sample={"pids": None})),
    (placement.missing, with_worker(launch={"cuda_visible_devices": ""})),
    (placement.repeated, with_worker(1, launch={"cuda_visible_devices": "0"})),
    (placement.repeated, with_worker(1, FREE, sample={"pids": None})),
    (placement.repeated, with_card(1, FREE, processes={"4242": None})),
    (placement.repeated, with_card(1, FREE, processes=None)),
    (
        placement.repeated,
        with_worker(launch={"cuda_visible_devices": "MIG-GPU-node1-0/1/0,MIG-GPU-node1-0/2/0"}),
    ),
    (
        placement.unknown,
        with_worker(0, with_card(1, fault="lost"), launch={"cuda_visible_devices": "0,7"}),
    ),
    (
        placement.unlike,
        with_worker(2, with_card(3, name="Tesla P100"), launch={"tensor_split": "3,1"}),
    ),
    (placement.repeated, with_worker(launch={"cuda_visible_devices": "0,-1,0"})),
    (placement.unknown, with_worker(launch={"cuda_visible_devices": "-1"})),
    (placement.unknown, with_worker(launch={"cuda_visible_devices": "MIG-6f7f4d21"})),
    (placement.unknown, with_worker(launch={"cuda_visible_devices": "GPU-node1-1"})),
    (placement.crowded, with_card(memory_used_bytes=int(23.5 * GIB))),
    (placement.crowded, with_card(workers=BOTH, memory_used_bytes=20 * GIB)),
    (placement.crowded, with_card(workers=BOTH, memory_used_bytes=None)),
    (placement.order, with_worker(launch={"cuda_device_order": None})),
    (
        placement.order,
        with_worker(
            0,
            with_worker(1, MIXED, launch={"cuda_visible_devices": None}),
            launch={"cuda_visible_devices": "0,1"},
        ),
    ),
    (placement.missing, with_worker(launch={**ALL, "tensor_split": "0,1"}, gpus=(0, 1))),
    # a card that no share is given for gets nothing; and what no server takes
    (placement.missing, with_worker(launch={**ALL, "tensor_split": "1"}, gpus=(0, 1))),
    (placement.missing, with_worker(launch={**ALL, "tensor_split": "1,x"}, gpus=(0, 1))),
    (placement.unlike, with_card(1, name="Tesla P100-PCIE-16GB")),
    (placement.unlike, with_card(3, name=None)),
    (placement.affinity, with_worker(confines={"cpus": "15-16"})),
    (placement.affinity, with_worker(confines={"cpus": None, "memory_nodes": None})),
    (
        placement.affinity,
        with_worker(0, told(numa_cpus={"0": "0-31"}), confines={"memory_nodes": "1"}),
    ),
    (
        placement.affinity,
        with_worker(0, with_card(numa_node=None), confines={"cpus": "16-31"}),
    ),
]


def test_the_order_of_all_cards_matters_where_shares_are_given_by_it() -> None:
    both = {"cuda_visible_devices": "0,1", "tensor_split": "3,1"}
    base = with_worker(1, MIXED, launch={"cuda_visible_devices": None})
    assert len(found(placement.order, with_worker(0, base, launch=both))) == 1


def test_cards_named_by_uuid_or_in_the_order_of_the_bus_are_certain() -> None:
    for told_so in ({"cuda_visible_devices": "GPU-node1-0"}, {"cuda_device_order": "PCI_BUS_ID"}):
        first = with_worker(0, MIXED, launch=told_so)
        assert [one.place for one in found(placement.order, first)] == ["node1/gpu1"]


def hidden(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The same where the driver does not say what each process takes."""
    (gpu,) = snapshot.gpus
    return replace(snapshot, gpus=(replace(gpu, sample=replace(gpu.sample, processes=None)),))


def sharing(
    total: int, *, running: bool = True, file: ModelFile | None = FILE
) -> tuple[ClusterSnapshot, int]:
    """Two workers of the same model on one card of so many bytes, and what each needs there."""
    first = worker((0,), context_tokens=32768)
    pids = ((100,), (101,)) if running else (None, None)
    health: Health | None = "ok" if running else None
    workers = tuple(
        replace(
            first,
            name=f"node1/gpu{place}",
            unit=replace(
                first.unit,
                active_state="active" if running else "inactive",
                unit_file_state="enabled",
            ),
            sample=replace(first.sample, pids=pids[place], health=health),
        )
        for place in (0, 1)
    )
    needs = judged(first, (card(0),)).needs
    assert needs is not None
    each = needs.cards[0].total
    processes = {"100": each, "101": each} if running else {}
    sample = replace(
        card(0, total).sample, processes=processes, memory_used_bytes=sum(processes.values())
    )
    gpu = GpuView("node1", sample, ("node1/gpu0", "node1/gpu1"))
    return replace(cluster(first, (gpu,), file), workers=workers), each


def test_workers_whose_needs_a_full_card_has_are_not_crowded() -> None:
    _, each = sharing(24 * GIB)
    tight, _ = sharing(2 * each + 2**20)
    assert found(placement.crowded, tight) == []
    # the same card where nothing is known of the model
    (one,) = found(placement.crowded, sharing(2 * each + 2**20, file=None)[0])
    assert "used by node1/gpu0, node1/gpu1" in one.evidence


def test_workers_that_would_not_fit_together_are_told_before_they_run() -> None:
    _, each = sharing(24 * GIB)
    (one,) = found(placement.crowded, sharing(2 * each + GIB, running=False)[0])
    assert one.evidence == (
        "node1/gpu0 6.0G + 1.0G spare + node1/gpu1 6.0G + 1.0G spare = 13.9G, it has 12.9G"
    )
    enough = 2 * (each + MARGIN_BYTES) + 2**20
    assert found(placement.crowded, sharing(enough, running=False)[0]) == []
    # those that run have room, whatever the driver hides of them
    assert found(placement.crowded, hidden(sharing(enough - 2**21)[0])) == []


@pytest.mark.parametrize(
    ("unit", "membership", "count"),
    [
        ({"unit_file_state": "disabled"}, None, 0),
        ({"unit_file_state": "disabled"}, "down", 0),
        ({"unit_file_state": "disabled"}, "in", 1),
        ({"unit_file_state": "disabled", "active_state": "failed"}, None, 0),
        ({"unit_file_state": "enabled-runtime"}, None, 1),
        (
            {
                "unit_file_state": "disabled",
                "active_state": "activating",
                "sub_state": "auto-restart",
            },
            None,
            1,
        ),
    ],
)
def test_a_unit_that_nobody_means_to_run_crowds_no_card(
    unit: dict[str, str], membership: Membership | None, count: int
) -> None:
    _, each = sharing(24 * GIB)
    for file in (FILE, None):
        snapshot = sharing(2 * each - GIB, running=False, file=file)[0]
        first, second = snapshot.workers
        left = replace(second, unit=replace(second.unit, **unit), membership=membership)  # type: ignore[arg-type]
        gpu = replace(
            snapshot.gpus[0],
            sample=replace(snapshot.gpus[0].sample, memory_used_bytes=2 * each - GIB),
        )
        snapshot = replace(snapshot, workers=(first, left), gpus=(gpu,))
        assert len(found(placement.crowded, snapshot)) == count

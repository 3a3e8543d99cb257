"""A cluster whose cards and workers tell everything, all of it well; changed part by part."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from llamatop.advise.finding import Finding, Rule
from llamatop.model.cluster import ClusterSnapshot, GpuView, WorkerView
from llamatop.model.observed import Confines, HostSample, Launch
from tests.screens import clusters

GIB = 2**30


def told(**host: Any) -> ClusterSnapshot:
    """node1 with a worker on each of its two cards, node2 with one split over its two.

    `host` are fields of node1's HostSample.
    """
    base = clusters.well()
    cards = tuple(_gpu(gpu) for gpu in base.gpus)
    workers = tuple(_worker(worker, place) for place, worker in enumerate(base.workers))
    nodes = []
    for view in base.nodes:
        sample = HostSample(
            hostname=view.name,
            uptime_seconds=100_000.0,
            driver_version="550.163.01",
            numa_cpus={"0": "0-15", "1": "16-31"},
            xids=(),
            iommu="off",
        )
        if view.name == "node1":
            sample = replace(sample, **host)
        gpus = {gpu.sample.uuid: gpu.sample for gpu in cards if gpu.node == view.name}
        nodes.append(replace(view, snapshot=replace(view.snapshot, host=sample, gpus=gpus)))
    return replace(base, nodes=tuple(nodes), gpus=cards, workers=workers)


def _gpu(gpu: GpuView) -> GpuView:
    index = gpu.sample.index or 0
    other = f"GPU-{gpu.node}-{1 - index}"
    sample = replace(
        gpu.sample,
        utilization_percent=96.0,
        throttle=("software_power_cap",),
        pcie_generation=3,
        pcie_generation_max=3,
        pcie_width=16,
        pcie_width_max=16,
        pci_bus_id=f"00000000:0{3 + index}:00.0",
        persistence_mode=True,
        power_limit_default_watts=250.0,
        temperature_slowdown_celsius=92.0,
        ecc_uncorrected=0,
        retired_pages=0,
        retired_pages_pending=False,
        numa_node=0,
        links={other: "PHB"} if index == 0 else {},
        processes={str(700 + index): 18 * GIB},
    )
    return replace(gpu, sample=sample)


def _worker(worker: WorkerView, place: int) -> WorkerView:
    launch = Launch(
        source="process",
        model="/srv/models/m.gguf",
        cuda_visible_devices=",".join(map(str, worker.gpus or ())),
        environment_known=True,
        mlock=False,
    )
    confines = Confines("0-31", "0-1", 8 * 2**20, "ext4")
    sample = replace(worker.sample, pids=(700 + place,), launch=launch, confines=confines)
    return replace(worker, sample=sample)


def with_card(
    place: int = 0, base: ClusterSnapshot | None = None, **changes: Any
) -> ClusterSnapshot:
    """One card changed: fields of GpuSample, and `workers` of its view."""
    base = base or told()
    view = base.gpus[place]
    workers = changes.pop("workers", view.workers)
    changed = replace(view, sample=replace(view.sample, **changes), workers=workers)
    gpus = tuple(changed if gpu is view else gpu for gpu in base.gpus)
    nodes = tuple(
        replace(
            node,
            snapshot=replace(
                node.snapshot,
                gpus={gpu.sample.uuid: gpu.sample for gpu in gpus if gpu.node == node.name},
            ),
        )
        for node in base.nodes
    )
    return replace(base, gpus=gpus, nodes=nodes)


def with_worker(
    place: int = 0,
    base: ClusterSnapshot | None = None,
    *,
    launch: dict[str, Any] | None = None,
    confines: dict[str, Any] | None = None,
    sample: dict[str, Any] | None = None,
    **changes: Any,
) -> ClusterSnapshot:
    """One worker changed: fields of its Launch, Confines, WorkerSample, and its view's own."""
    base = base or told()
    worker = base.workers[place]
    within = replace(
        worker.sample,
        launch=replace(worker.sample.launch, **(launch or {})),
        confines=replace(worker.sample.confines, **(confines or {})),
        **(sample or {}),
    )
    changed = replace(worker, sample=within, **changes)
    return replace(base, workers=tuple(changed if one is worker else one for one in base.workers))


def found(rule: Rule, snapshot: ClusterSnapshot) -> list[Finding]:
    return list(rule(snapshot))

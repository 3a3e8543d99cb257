"""Cases of the rules about the machine below: those that fire, and near ones that must not."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from llamatop.advise import platform
from llamatop.advise.finding import Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import Confines
from tests.unit.advise.boards import GIB, found, told, with_card, with_worker
from tests.unit.advise.test_fitting import card, cluster, worker

BOTH = with_worker(0, told(iommu="translating"), gpus=(0, 1))
LOCKED = with_worker(launch={"mlock": True})
GROUPS = ({"iommu_group": 14, "links": {"GPU-node1-1": "PIX"}}, {"iommu_group": 15})


def switched(iommu: str = "passthrough", **first: Any) -> ClusterSnapshot:
    """A worker over two cards below one switch, each in a group of its own."""
    base = with_card(0, with_worker(0, told(iommu=iommu), gpus=(0, 1)), **{**GROUPS[0], **first})
    return with_card(1, base, **GROUPS[1])


ROOT = with_worker(0, LOCKED, unit=replace(LOCKED.workers[0].unit, user="root"))

FIRING: list[tuple[Rule, ClusterSnapshot, str, str, str]] = [
    (
        platform.iommu,
        BOTH,
        "node1/gpu0",
        "warning",
        "the IOMMU translates, and its cards reach each other by PHB",
    ),
    (
        platform.acs,
        switched(),
        "node1/gpu0",
        "info",
        "GPU0 and GPU1 are below one switch (PIX), in IOMMU groups 14 and 15",
    ),
    (
        platform.acs,
        switched(links={"GPU-node1-1": "PXB"}),
        "node1/gpu0",
        "info",
        "one switch (PXB)",
    ),
    (
        platform.locked,
        LOCKED,
        "node1/gpu0",
        "warning",
        "--mlock, but no more than 8M may be locked (LimitMEMLOCK)",
    ),
    (
        platform.far,
        with_worker(confines={"model_filesystem": "nfs4"}),
        "node1/gpu0",
        "warning",
        "/srv/models/m.gguf lies on nfs4",
    ),
    (
        platform.far,
        with_worker(confines={"model_filesystem": "fuse.sshfs"}),
        "node1/gpu0",
        "warning",
        "fuse.sshfs",
    ),
]

SILENT: list[tuple[Rule, ClusterSnapshot]] = [
    (platform.iommu, told(iommu="translating")),
    (platform.iommu, with_worker(0, told(iommu="passthrough"), gpus=(0, 1))),
    (platform.iommu, with_worker(0, told(iommu=None), gpus=(0, 1))),
    (platform.iommu, with_card(0, BOTH, links={"GPU-node1-1": "NV4"})),
    (platform.iommu, with_card(0, BOTH, links=None)),
    (platform.acs, switched(iommu_group=15)),
    (platform.acs, switched(iommu_group=None)),
    (platform.acs, switched(links={"GPU-node1-1": "PHB"})),
    (platform.acs, switched(links={"GPU-node1-1": "NV4"})),
    (platform.acs, switched(links=None)),
    # what the IOMMU does there is the worse of the two
    (platform.acs, switched("translating")),
    (platform.acs, switched("off")),
    (platform.acs, with_worker(0, switched(), gpus=(0,))),
    (platform.locked, ROOT),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": 2**63 - 1})),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": 30 * GIB})),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": None})),
    (platform.locked, with_worker(launch={"mlock": None})),
    (platform.far, with_worker(confines={"model_filesystem": "fuse.mergerfs"})),
    (platform.far, with_worker(confines={"model_filesystem": "overlay"})),
    (platform.far, with_worker(confines={"model_filesystem": None})),
]


def held(limit: int, gpus: tuple[int, ...]) -> ClusterSnapshot:
    """A worker with --mlock that may lock so many bytes; its model's file has 4.4 GiB."""
    view = worker(gpus, mlock=True)
    sample = replace(view.sample, confines=Confines(memlock_bytes=limit))
    return cluster(replace(view, sample=sample), (card(0),))


def test_what_is_to_be_locked_is_what_lies_in_the_hosts_memory() -> None:
    embedding = 306_561_024
    (one,) = found(platform.locked, held(8 * 2**20, (0,)))
    assert "--mlock of at least 292M of weights, but no more than 8M" in one.evidence
    # less than the gibibyte that is taken where nothing is known, and yet enough
    assert found(platform.locked, held(embedding, (0,))) == []
    (one,) = found(platform.locked, held(4 * GIB, ()))
    assert "--mlock of at least 4.4G of weights, but no more than 4.0G" in one.evidence
    assert found(platform.locked, held(5 * GIB, ())) == []

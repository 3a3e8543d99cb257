"""Rules about the machine below: each with a case that fires and near ones that must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamatop.advise import platform
from llamatop.advise.finding import Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import Confines
from tests.unit.advise.boards import GIB, found, told, with_card, with_worker
from tests.unit.advise.test_fitting import card, cluster, worker

BOTH = with_worker(0, told(iommu="translating"), gpus=(0, 1))
LOCKED = with_worker(launch={"mlock": True})
ROOT = with_worker(0, LOCKED, unit=replace(LOCKED.workers[0].unit, user="root"))

FIRING: list[tuple[Rule, ClusterSnapshot, str]] = [
    (platform.iommu, BOTH, "the IOMMU translates, and its cards reach each other by PHB"),
    (platform.locked, LOCKED, "--mlock, but no more than 8M may be locked (LimitMEMLOCK)"),
    (
        platform.far,
        with_worker(confines={"model_filesystem": "nfs4"}),
        "/srv/models/m.gguf lies on nfs4",
    ),
    (platform.far, with_worker(confines={"model_filesystem": "fuse.sshfs"}), "fuse.sshfs"),
]

SILENT: list[tuple[Rule, ClusterSnapshot]] = [
    (platform.iommu, told(iommu="translating")),
    (platform.iommu, with_worker(0, told(iommu="passthrough"), gpus=(0, 1))),
    (platform.iommu, with_worker(0, told(iommu=None), gpus=(0, 1))),
    (platform.iommu, with_card(0, BOTH, links={"GPU-node1-1": "NV4"})),
    (platform.iommu, with_card(0, BOTH, links=None)),
    (platform.locked, ROOT),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": 2**63 - 1})),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": 30 * GIB})),
    (platform.locked, with_worker(0, LOCKED, confines={"memlock_bytes": None})),
    (platform.locked, with_worker(launch={"mlock": None})),
    (platform.far, with_worker(confines={"model_filesystem": "fuse.mergerfs"})),
    (platform.far, with_worker(confines={"model_filesystem": "overlay"})),
    (platform.far, with_worker(confines={"model_filesystem": None})),
]


@pytest.mark.parametrize(("rule", "snapshot", "evidence"), FIRING)
def test_it_fires(rule: Rule, snapshot: ClusterSnapshot, evidence: str) -> None:
    (one,) = found(rule, snapshot)
    assert (one.place, one.severity) == ("node1/gpu0", "warning")
    assert evidence in one.evidence


@pytest.mark.parametrize(("rule", "snapshot"), SILENT)
def test_the_near_case_does_not(rule: Rule, snapshot: ClusterSnapshot) -> None:
    assert found(rule, snapshot) == []


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

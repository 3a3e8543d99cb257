"""What the machine below holds back: an IOMMU, a limit on locked memory, a model far away."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot, GpuView, WorkerView
from llamatop.model.figures import bytes_short

from .cards import name
from .finding import Finding, Rule
from .fit import Fitter

# Less than any model that is worth a card: where it is not known how much is to be locked.
LEAST_LOCKED_BYTES = 2**30
# Ways that pass a switch and no processor.
_SWITCHED = ("PIX", "PXB")
_REMOTE = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "ceph",
        "glusterfs",
        "lustre",
        "afs",
        "9p",
        "beegfs",
        "fuse.sshfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.juicefs",
        "fuse.gcsfuse",
        "fuse.mount-s3",
        "fuse.goofys",
    ]
)


def iommu(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Cards that copy to each other through an IOMMU that translates."""
    for worker, on in _split(snapshot, "translating"):
        words = _words(on)
        if words:
            yield Finding(
                "iommu-between-cards",
                "warning",
                worker.name,
                f"the IOMMU translates, and its cards reach each other by {', '.join(words)}",
                "copies between them go up to the processor and back, or fail",
                "boot with iommu=pt (and ACS off below the switches), unless machines are guests",
            )


def acs(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Cards below one switch that the kernel holds apart: ACS redirects what they tell each other.

    A switch may have been told otherwise since the machine booted, and only root can see that.
    """
    for worker, on in _split(snapshot, "passthrough"):
        by_uuid = {gpu.sample.uuid: gpu for gpu in on}
        apart = [
            (gpu, by_uuid[other], word)
            for gpu in on
            for other, word in (gpu.sample.links or {}).items()
            if other in by_uuid and word in _SWITCHED and _apart(gpu, by_uuid[other])
        ]
        if apart:
            one, other, word = apart[0]
            more = f", and {len(apart) - 1} more pairs" if len(apart) > 1 else ""
            yield Finding(
                "acs-between-cards",
                "info",
                worker.name,
                f"{name(one)} and {name(other)} are below one switch ({word}), in IOMMU groups"
                f" {one.sample.iommu_group} and {other.sample.iommu_group}{more}",
                "ACS was on there at boot: copies between them go up to the processor and back",
                "sudo lspci -vvv | grep ACSCtl shows the switch's ports now; where it says"
                " ReqRedir+, switch ACS off in the BIOS, unless machines are guests",
            )


def locked(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A model that is to be held in memory, by a process that may hold nearly nothing."""
    fitter = Fitter(snapshot)
    for worker in snapshot.workers:
        limit = worker.sample.confines.memlock_bytes
        if not worker.sample.launch.mlock or limit is None or worker.unit.user in ("root", "0"):
            continue
        weights = fitter.locked(worker)
        if limit >= (LEAST_LOCKED_BYTES if weights is None else weights):
            continue
        size = "" if weights is None else f" of at least {bytes_short(weights)} of weights"
        yield Finding(
            "memlock-limit",
            "warning",
            worker.name,
            f"--mlock{size}, but no more than {bytes_short(limit)} may be locked (LimitMEMLOCK)",
            "the model is not held in memory: what is swapped out must be read again",
            f"systemctl edit {worker.unit.name}: [Service] LimitMEMLOCK=infinity",
        )


def far(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A model file that comes over the network."""
    for worker in snapshot.workers:
        kind = worker.sample.confines.model_filesystem
        if kind in _REMOTE:
            yield Finding(
                "model-on-network",
                "warning",
                worker.name,
                f"{worker.sample.launch.model} lies on {kind}",
                "it loads slowly, and when the network stands still so does the worker",
                "copy the file to a disk of the node, and name that one",
            )


def _split(snapshot: ClusterSnapshot, iommu: str) -> Iterator[tuple[WorkerView, list[GpuView]]]:
    """Workers over several cards, with these, on nodes whose IOMMU is such."""
    nodes = {node.name for node in snapshot.nodes if node.snapshot.host.iommu == iommu}
    if not nodes:
        return
    cards = {
        (gpu.node, gpu.sample.index): gpu for gpu in snapshot.gpus if gpu.sample.index is not None
    }
    for worker in snapshot.workers:
        if worker.node in nodes and len(worker.gpus or ()) > 1:
            places = [(worker.node, index) for index in worker.gpus or ()]
            yield worker, [cards[place] for place in places if place in cards]


def _apart(one: GpuView, other: GpuView) -> bool:
    groups = one.sample.iommu_group, other.sample.iommu_group
    return None not in groups and groups[0] != groups[1]


def _words(cards: list[GpuView]) -> list[str]:
    """How the cards reach each other, NVLink left out: that passes the IOMMU by."""
    here = {gpu.sample.uuid for gpu in cards}
    found = {
        word
        for gpu in cards
        for other, word in (gpu.sample.links or {}).items()
        if other in here and not word.startswith("NV")
    }
    return sorted(found)


RULES: tuple[Rule, ...] = (iommu, acs, locked, far)

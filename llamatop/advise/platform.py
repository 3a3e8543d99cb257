"""What the machine below holds back: an IOMMU, a limit on locked memory, a model far away."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.figures import bytes_short

from .finding import Finding, Rule
from .fit import Fitter

# Less than any model that is worth a card: where it is not known how much is to be locked.
LEAST_LOCKED_BYTES = 2**30
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
    nodes = {node.name for node in snapshot.nodes if node.snapshot.host.iommu == "translating"}
    if not nodes:
        return
    cards = {
        (gpu.node, gpu.sample.index): gpu for gpu in snapshot.gpus if gpu.sample.index is not None
    }
    for worker in snapshot.workers:
        if worker.node not in nodes:
            continue
        on = [
            cards[worker.node, index]
            for index in worker.gpus or ()
            if (worker.node, index) in cards
        ]
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


RULES: tuple[Rule, ...] = (iommu, locked, far)

"""What the rules call a card, and which of them can be judged."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.model.cluster import ClusterSnapshot, GpuView


def alive(snapshot: ClusterSnapshot) -> Iterator[GpuView]:
    """The cards that have no fault: what others last told may be old."""
    for gpu in snapshot.gpus:
        if gpu.sample.fault is None:
            yield gpu


def name(gpu: GpuView) -> str:
    """`GPU2`, its UUID where it has no number."""
    sample = gpu.sample
    return sample.uuid if sample.index is None else f"GPU{sample.index}"


def place(gpu: GpuView) -> str:
    """`node1:GPU2`."""
    return f"{gpu.node}:{name(gpu)}"

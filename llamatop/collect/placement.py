"""Which worker runs on which cards, how that is known, and what layout it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from llamatop.model.cluster import Topology
from llamatop.model.observed import GpuSample, Launch, NodeSnapshot, WorkerSample
from llamatop.model.visible import visible_devices

Source = Literal["nvml", "environment"]


class Placement(Struct, frozen=True):
    """A worker's cards as indices on its node; None where that is unknown, () on the CPU."""

    gpus: tuple[int, ...] | None = None
    source: Source | None = None
    topology: Topology | None = None


def place(snapshot: NodeSnapshot) -> dict[str, Placement]:
    """Each worker's cards and layout, by unit.

    From the pids that the driver reports; where it reports none of a worker's, from its
    environment and command line. Same as `nvidia-smi --query-compute-apps=gpu_uuid,pid` and
    `tr '\\0' '\\n' </proc/PID/environ`.
    """
    owners: dict[int, list[int]] = {}
    for gpu in snapshot.gpus.values():
        for pid in gpu.processes or ():
            if gpu.index is not None and pid.isascii() and pid.isdecimal():
                owners.setdefault(int(pid), []).append(gpu.index)
    hidden = any(gpu.processes is None for gpu in snapshot.gpus.values())
    no_cards = not snapshot.gpus and "gpus" not in snapshot.faults
    found: dict[str, tuple[tuple[int, ...] | None, Source | None]] = {}
    for unit, worker in snapshot.workers.items():
        seen = sorted({index for pid in worker.pids or () for index in owners.get(pid, ())})
        if seen:
            found[unit] = (tuple(seen), "nvml")
            continue
        if worker.loaded and all(model.gpu_bytes == 0 for model in worker.loaded):
            # Ollama itself says so, whatever cards it was to have.
            found[unit] = ((), None)
            continue
        declared = from_environment(worker.launch, snapshot.gpus)
        if declared is None and no_cards and worker.launch.source is not None:
            declared = ()
        computes = worker.health == "ok" and worker.loaded != ()
        if declared is None and owners and not hidden and worker.pids and computes:
            # The driver shows processes, and this one, which has its model loaded, is not there.
            found[unit] = ((), "nvml")
        else:
            found[unit] = (declared, None if declared is None else "environment")

    sharing = Counter(
        index for unit, (gpus, _) in found.items() if runs(snapshot, unit) for index in gpus or ()
    )
    return {
        unit: Placement(
            gpus,
            source,
            topology(
                gpus,
                snapshot.workers[unit],
                runs(snapshot, unit) and any(sharing[index] > 1 for index in gpus or ()),
            ),
        )
        for unit, (gpus, source) in found.items()
    }


def runs(snapshot: NodeSnapshot, unit: str) -> bool:
    """Whether the worker has processes now; a stopped one shares no card."""
    return bool(snapshot.workers[unit].pids)


def topology(
    gpus: tuple[int, ...] | None, worker: WorkerSample, shares: bool = False
) -> Topology | None:
    """The layout as CLI.md names it; `shares` tells of another worker on one of its cards."""
    launch = worker.launch
    tensor = launch.split_mode in ("row", "tensor") or (launch.tensor_parallel or 1) > 1
    if gpus is None:
        return "tensor-split" if (launch.tensor_parallel or 1) > 1 else None
    if not gpus:
        return "cpu"
    if len(gpus) > 1:
        return "tensor-split" if tensor else "layer-split"
    return "shared" if shares else "per-gpu"


def from_environment(launch: Launch, gpus: Mapping[str, GpuSample]) -> tuple[int, ...] | None:
    """The indices that CUDA_VISIBLE_DEVICES, --device, --split-mode and --gpu-layers leave.

    None where they do not say, or name a card that is not known here; () is the CPU alone.
    """
    if launch.gpu_layers == "0" or (launch.devices or "").strip() == "none":
        return ()
    if launch.cuda_visible_devices is None:
        return None
    visible = visible_devices(launch.cuda_visible_devices, gpus)
    if visible is None:
        return None
    if launch.devices:
        chosen = []
        for name in launch.devices.split(","):
            number = name.strip().removeprefix("CUDA")
            if not (number.isascii() and number.isdecimal()):
                return None
            if int(number) >= len(visible):
                return None
            chosen.append(visible[int(number)])
        visible = tuple(chosen)
    if launch.split_mode == "none" and visible:
        main = launch.main_gpu or 0
        return (visible[main],) if 0 <= main < len(visible) else None
    return visible

"""Cards that are set up unlike their siblings, held back, misused or unused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.observed import GpuSample

from .cards import alive, name, place
from .finding import Finding, Rule

# From here on a card works, below that it rests; between them it is not judged.
BUSY_PERCENT, IDLE_PERCENT = 50.0, 5.0
HOT_CELSIUS, SLOWDOWN_MARGIN = 85.0, 5.0
QUEUE_SECONDS = 30.0
_HARMFUL = {
    "hardware_slowdown": "it is too hot, or its power supply too weak",
    "hardware_thermal_slowdown": "it is too hot",
    "software_thermal_slowdown": "it is near its limit of temperature",
    "hardware_power_brake_slowdown": "the machine's power supply asked for it",
}

Value = TypeVar("Value", int, str)


def drivers(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Nodes whose driver is another than most of the nodes with like cards have."""
    nodes = {node.name: node.snapshot.host.driver_version for node in snapshot.nodes}
    told = set()
    for make, gpus in _by_name(snapshot).items():
        versions = {gpu.node: version for gpu in gpus if (version := nodes.get(gpu.node))}
        if len(set(versions.values())) < 2:
            continue
        usual = _usual(versions.values())
        for node, version in versions.items():
            if version != usual and node not in told:
                told.add(node)
                yield Finding(
                    "gpu-driver-differs",
                    "warning",
                    node,
                    f"driver {version}, other nodes with {make} have {usual}",
                    "the same model may run, and fail, differently from node to node",
                    f"install driver {usual} there, drained: nvidia-smi shows the version",
                )


def persistence(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """The driver lets go of a card that nobody uses."""
    off: dict[str, list[GpuView]] = defaultdict(list)
    for gpu in snapshot.gpus:
        if gpu.sample.persistence_mode is False:
            off[gpu.node].append(gpu)
    for node, gpus in off.items():
        cards = ", ".join(name(gpu) for gpu in gpus)
        yield Finding(
            "gpu-persistence-off",
            "warning",
            node,
            f"persistence mode is off on {cards}",
            "a restarted worker waits seconds for its card, which forgets power limit and errors",
            "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
        )


def power_limits(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Cards with another power limit than their like."""
    for make, gpus in _by_name(snapshot).items():
        limits = [gpu.sample.power_limit_watts for gpu in gpus]
        known = [round(limit) for limit in limits if limit is not None]
        if len(set(known)) < 2 or all(map(_as_built, gpus)):
            continue
        usual = _usual(known)
        for gpu, limit in zip(gpus, limits, strict=True):
            if limit is None or round(limit) == usual:
                continue
            default = gpu.sample.power_limit_default_watts
            told = "" if default is None else f" (default {default:.0f} W)"
            yield Finding(
                "gpu-power-limit-differs",
                "warning",
                place(gpu),
                f"{limit:.0f} W{told}, other cards {make} have {usual} W",
                "the slower card makes whoever is sent to it wait longer",
                f"nvidia-smi -i {gpu.sample.index} -pl {usual}",
            )


def pcie(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A busy card whose link is slower or narrower than it could be; at rest it is slow by plan."""
    for gpu in alive(snapshot):
        sample = gpu.sample
        if (sample.utilization_percent or 0.0) < BUSY_PERCENT:
            continue
        now = sample.pcie_generation, sample.pcie_width
        best = sample.pcie_generation_max, sample.pcie_width_max
        if None in now or None in best:
            continue
        if any((one or 0) < (other or 0) for one, other in zip(now, best, strict=True)):
            yield Finding(
                "gpu-pcie-slow",
                "warning",
                place(gpu),
                f"PCIe {now[0]} x{now[1]} of {best[0]} x{best[1]}"
                f" at {sample.utilization_percent:.0f} % busy",
                "models load slower, and what cards tell each other takes longer",
                "seat the card anew, look at riser and slot, and at the BIOS's PCIe settings",
            )


def throttled(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card that is slowed down, and what for."""
    for gpu in alive(snapshot):
        reasons = [reason for reason in gpu.sample.throttle or () if reason in _HARMFUL]
        if reasons:
            yield Finding(
                "gpu-throttled",
                "warning",
                place(gpu),
                f"slowed down by {', '.join(reasons)}{_degrees(gpu.sample)}",
                _because(reasons),
                "look at fans, air flow and power cables; nvidia-smi -q -d PERFORMANCE",
            )


def hot(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card near the temperature at which it slows itself down."""
    for gpu in alive(snapshot):
        sample = gpu.sample
        limit = sample.temperature_slowdown_celsius
        warm = HOT_CELSIUS if limit is None else limit - SLOWDOWN_MARGIN
        if sample.temperature_celsius is not None and sample.temperature_celsius >= warm:
            told = ", its own limit is not known" if limit is None else f" of {limit:.0f} °C, where"
            told += "" if limit is None else " it slows itself down"
            yield Finding(
                "gpu-hot",
                "warning",
                place(gpu),
                f"{sample.temperature_celsius:.0f} °C{told}",
                "it will be slowed down, and then switched off, to save itself",
                "look at fans, filters and air flow; a lower power limit helps at once",
            )


def strangers(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A busy card whose processes are those of no worker."""
    for gpu in alive(snapshot):
        sample = gpu.sample
        if gpu.workers or not sample.processes:
            continue
        if (sample.utilization_percent or 0.0) >= BUSY_PERCENT:
            pids = ", ".join(sorted(sample.processes)[:4])
            yield Finding(
                "gpu-busy-unowned",
                "warning",
                place(gpu),
                f"{sample.utilization_percent:.0f} % busy with process {pids}, of no worker",
                "somebody else computes on a card of this cluster, or a worker is not known",
                f"see who: ps -fp {pids.split(',')[0]}; a worker belongs into `units`",
            )


def idle(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card without a worker, on a cluster where requests wait."""
    waiting = [
        worker for worker in snapshot.workers if (worker.queued_seconds or 0.0) >= QUEUE_SECONDS
    ]
    if not waiting:
        return
    most = max(waiting, key=lambda worker: worker.sample.requests_deferred or 0)
    told = f"{most.sample.requests_deferred or 0} requests wait at {most.name}"
    known = {worker.node for worker in snapshot.workers if worker.gpus is None}
    for gpu in alive(snapshot):
        sample = gpu.sample
        free = not gpu.workers and gpu.node not in known and sample.processes == {}
        busy = sample.utilization_percent
        if free and busy is not None and busy < IDLE_PERCENT:
            yield Finding(
                "gpu-idle-queued",
                "warning",
                place(gpu),
                f"{busy:.0f} % busy, no worker on it; {told}",
                "whoever waits could be served there",
                "start a worker on this card, and put it into the upstream",
            )


def _because(reasons: list[str]) -> str:
    """What it is slowed down for; the one reason that has several causes adds nothing to others."""
    certain = [reason for reason in reasons if reason != "hardware_slowdown"] or reasons
    return "; ".join(dict.fromkeys(_HARMFUL[reason] for reason in certain))


def _by_name(snapshot: ClusterSnapshot) -> dict[str, list[GpuView]]:
    found: dict[str, list[GpuView]] = defaultdict(list)
    for gpu in snapshot.gpus:
        if gpu.sample.name:
            found[gpu.sample.name].append(gpu)
    return found


def _as_built(gpu: GpuView) -> bool:
    """Whether its power limit is its own default: boards of one name come with several."""
    limit, default = gpu.sample.power_limit_watts, gpu.sample.power_limit_default_watts
    return limit is not None and default is not None and round(limit) == round(default)


def _usual(values: Iterable[Value]) -> Value:
    """The value that most have; of several the largest, which for versions is the newest."""
    counted = Counter(values)
    most = max(counted.values())
    return max(
        (value for value, count in counted.items() if count == most),
        key=lambda value: [int(part) for part in str(value).split(".") if part.isdecimal()],
    )


def _degrees(sample: GpuSample) -> str:
    known = sample.temperature_celsius
    return "" if known is None else f" at {known:.0f} °C"


RULES: tuple[Rule, ...] = (
    drivers,
    persistence,
    power_limits,
    pcie,
    throttled,
    hot,
    strangers,
    idle,
)

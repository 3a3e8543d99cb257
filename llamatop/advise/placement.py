"""Which worker is on which cards: told wrongly, doubly, or to the wrong socket."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, WorkerView
from llamatop.model.figures import bytes_short
from llamatop.model.visible import entries

from .cards import alive, place
from .finding import Finding, Rule
from .fit import Fitter, shares

# Of a card: from here on a request, or a restart, may find no room.
FULL_PERCENT = 95.0
_VARIABLE = "CUDA_VISIBLE_DEVICES"

_Cards = Mapping[str, Mapping[int, GpuView]]


def missing(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A worker that takes all cards of its node, which others are on as well."""
    cards = _cards(snapshot)
    counted = Counter(
        worker.node for worker in snapshot.workers if worker.sample.pids and worker.gpus != ()
    )
    for worker in snapshot.workers:
        launch, count = worker.sample.launch, len(cards.get(worker.node, ()))
        if not launch.environment_known or launch.cuda_visible_devices is not None:
            continue
        chosen = launch.devices or launch.gpu_layers == "0" or launch.split_mode == "none"
        chosen = chosen or _left_out(launch.tensor_split, count)
        chosen = chosen or (worker.gpus is not None and len(worker.gpus) < 2)
        if chosen or worker.sample.engine != "llama-server" or not worker.sample.pids:
            continue
        if count > 1 and counted[worker.node] > 1:
            yield Finding(
                "cuda-devices-missing",
                "warning",
                worker.name,
                f"no {_VARIABLE} and no --device, on a node with {count} cards"
                f" and {counted[worker.node]} workers",
                "it spreads its model over all cards, those of other workers too",
                f"systemctl edit {worker.unit.name}: [Service] Environment={_VARIABLE}=…",
            )


def _left_out(tensor_split: str | None, count: int) -> bool:
    """Whether --tensor-split gives some of the cards nothing, or may: where it is no list."""
    if not tensor_split:
        return False
    parts = shares(tensor_split)
    # a card without a share has 0; where all have, they are as if not told
    return parts is None or (any(parts) and not all((*parts, *(0,) * (count - len(parts)))))


def repeated(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card named twice, by one worker, or by two where another card has none."""
    free = _free(snapshot)
    first: dict[tuple[str, tuple[int, ...]], WorkerView] = {}
    for worker, named in _named(snapshot):
        value = worker.sample.launch.cuda_visible_devices
        # Several parts of one card are not the card twice.
        indices = tuple(
            index for word, index in named if index is not None and not word.startswith("MIG-")
        )
        if len(set(indices)) < len(indices):
            yield Finding(
                "cuda-devices-repeated",
                "error",
                worker.name,
                f"{_VARIABLE}={value} names a card twice",
                "CUDA then finds no card at all, and the model is computed on the CPU",
                f"systemctl edit {worker.unit.name}: name each card once",
            )
        if len(indices) != 1 or not worker.sample.pids:
            continue
        other = first.setdefault((worker.node, indices), worker)
        if other is not worker and free.get(worker.node):
            idle = ", ".join(f"GPU{index}" for index in free[worker.node])
            yield Finding(
                "cuda-devices-repeated",
                "warning",
                worker.name,
                f"{_VARIABLE}={value}, as {other.name} has; no worker is on {idle}",
                "two workers share a card while another one rests",
                f"systemctl edit {worker.unit.name}: {_VARIABLE}={free[worker.node][0]}",
            )


def unknown(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A card that the node does not have."""
    cards = _cards(snapshot)
    for worker, named in _named(snapshot):
        here = cards[worker.node]
        if any(gpu.sample.fault is not None for gpu in here.values()):
            # A card that was lost before it told its UUID is there all the same.
            continue
        # A part of a card has a UUID that does not name the card.
        wrong = [
            word
            for word, index in named
            if not word.startswith("MIG-") and (index is None or index not in here)
        ]
        if wrong:
            have = ", ".join(map(str, sorted(here)))
            yield Finding(
                "cuda-devices-unknown",
                "error",
                worker.name,
                f"{_VARIABLE}={worker.sample.launch.cuda_visible_devices}:"
                f" no card here is {', '.join(wrong)} (there are {have})",
                "CUDA hides it and all cards after it; the model may be computed on the CPU",
                f"systemctl edit {worker.unit.name}: name cards that nvidia-smi -L lists",
            )


def crowded(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Several workers on a card that has not the memory for all of them.

    By what each needs where that is known of all, else by how much of the memory is used. Those
    that are stopped and meant to be are not among them.
    """
    fitter = Fitter(snapshot)
    workers = {worker.name: worker for worker in snapshot.workers if _wanted(worker)}
    for gpu in snapshot.gpus:
        used, total = gpu.sample.memory_used_bytes, gpu.sample.memory_total_bytes
        here = [workers[name] for name in gpu.workers if name in workers]
        if len(here) < 2 or not total:
            continue
        needs = _needed(gpu, here, fitter)
        if needs is not None:
            whole = sum(size + spare for size, spare in needs.values())
            parts = " + ".join(
                f"{name} {bytes_short(size)}" + (f" + {bytes_short(spare)} spare" if spare else "")
                for name, (size, spare) in needs.items()
            )
            evidence = f"{parts} = {bytes_short(whole)}, it has {bytes_short(total)}"
            full = whole > total
        else:
            full = used is not None and 100 * used / total >= FULL_PERCENT
            on = ", ".join(worker.name for worker in here)
            evidence = f"{bytes_short(used)} of {bytes_short(total)} used by {on}"
        if full:
            yield Finding(
                "gpu-memory-crowded",
                "warning",
                place(gpu),
                evidence,
                "the next that restarts, or grows, finds no room and fails",
                "one worker a card, or a smaller context or model for one of them",
            )


def _needed(
    gpu: GpuView, on: list[WorkerView], fitter: Fitter
) -> dict[str, tuple[int, int]] | None:
    """What each worker needs on the card, and to spare; None where it is not known of all."""
    found: dict[str, tuple[int, int]] = {}
    for worker in on:
        fit = fitter.fit(worker)
        needed = None
        if fit is not None and gpu.sample.index is not None:
            needed = fit.needed_on(gpu.sample.index)
        if needed is None:
            return None
        found[worker.name] = needed
    return found


def _wanted(worker: WorkerView) -> bool:
    """Whether it runs, or is meant to: systemd, or whoever lists it, may start it."""
    unit = worker.unit
    runs = worker.sample.pids or unit.active_state not in (None, "inactive", "failed")
    listed = worker.membership in ("in", "mixed")
    return bool(runs) or listed or unit.unit_file_state in ("enabled", "enabled-runtime")


def order(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Unlike cards, numbered by CUDA otherwise than by nvidia-smi."""
    cards = _cards(snapshot)
    for worker, named in _named(snapshot):
        launch = worker.sample.launch
        names = {gpu.sample.name for gpu in cards[worker.node].values() if gpu.sample.name}
        numbered = any(word.isdecimal() for word, _ in named)
        if len(names) < 2 or not numbered or not launch.environment_known:
            continue
        whole = len({index for _, index in named}) == len(cards[worker.node])
        if whole and not launch.tensor_split and launch.main_gpu is None and not launch.devices:
            # however they are numbered, it is on all of them
            continue
        if launch.cuda_device_order != "PCI_BUS_ID":
            yield Finding(
                "cuda-device-order",
                "warning",
                worker.name,
                f"CUDA_DEVICE_ORDER is {launch.cuda_device_order or 'not set'},"
                f" cards are {', '.join(sorted(names))}",
                f"CUDA numbers the fastest first: {_VARIABLE}={launch.cuda_visible_devices}"
                " may mean another card than it says",
                f"systemctl edit {worker.unit.name}:"
                " [Service] Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID, or name cards by UUID",
            )


def unlike(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """One worker over cards of different makes."""
    cards = _cards(snapshot)
    for worker in snapshot.workers:
        on = _on(worker, cards)
        names = {gpu.sample.name for gpu in on if gpu.sample.name}
        if len(names) > 1 and not worker.sample.launch.tensor_split:
            shares = worker.sample.engine == "llama-server"
            told = ", ".join(f"GPU{gpu.sample.index} {gpu.sample.name}" for gpu in on)
            yield Finding(
                "split-cards-unlike",
                "warning",
                worker.name,
                f"{worker.topology or 'split'} over {told}",
                "the slowest card sets the pace of all, the smallest the room",
                "split over like cards"
                + (", or give each its share with --tensor-split" if shares else ""),
            )


def affinity(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A worker held to processors, or memory, of the socket that its cards are not on."""
    cards = _cards(snapshot)
    nodes = {node.name: node for node in snapshot.nodes}
    for worker in snapshot.workers:
        sockets = {gpu.sample.numa_node for gpu in _on(worker, cards)}
        node, confines = nodes.get(worker.node), worker.sample.confines
        if node is None or None in sockets or not sockets:
            continue
        if len(node.snapshot.host.numa_cpus or ()) < 2:
            continue
        near = {socket for socket in sockets if socket is not None}
        told = []
        if confines.cpus and not _near_cpus(node, near) & _numbers(confines.cpus):
            told.append(f"processors {confines.cpus}")
        if confines.memory_nodes and not near & _numbers(confines.memory_nodes):
            told.append(f"memory of NUMA node {confines.memory_nodes}")
        if told and _near_cpus(node, near):
            where = ", ".join(map(str, sorted(near)))
            yield Finding(
                "affinity-other-socket",
                "warning",
                worker.name,
                f"held to {' and '.join(told)}; its cards are on NUMA node {where}",
                "all between it and its cards goes over the link between the sockets",
                f"systemctl edit {worker.unit.name}: [Service] NUMAPolicy=preferred"
                f" NUMAMask={where}, CPUAffinity=numa",
            )


def _cards(snapshot: ClusterSnapshot) -> _Cards:
    found: dict[str, dict[int, GpuView]] = defaultdict(dict)
    for gpu in snapshot.gpus:
        if gpu.sample.index is not None:
            found[gpu.node][gpu.sample.index] = gpu
    return found


def _on(worker: WorkerView, cards: _Cards) -> list[GpuView]:
    here = cards.get(worker.node, {})
    return [here[index] for index in worker.gpus or () if index in here]


def _named(
    snapshot: ClusterSnapshot,
) -> Iterator[tuple[WorkerView, list[tuple[str, int | None]]]]:
    """Workers with the cards that they are told, on nodes whose cards are all known."""
    nodes = {
        node.name: node.snapshot
        for node in snapshot.nodes
        if node.snapshot.gpus and "gpus" not in node.snapshot.faults
    }
    for worker in snapshot.workers:
        value = worker.sample.launch.cuda_visible_devices
        if value and worker.node in nodes:
            named = entries(value, nodes[worker.node].gpus)
            if named:
                yield worker, named


def _free(snapshot: ClusterSnapshot) -> dict[str, list[int]]:
    """Cards that no process is on, by node; nodes where any worker's cards are unknown left out."""
    unsure = {worker.node for worker in snapshot.workers if worker.gpus is None}
    found: dict[str, list[int]] = defaultdict(list)
    for gpu in alive(snapshot):
        index = gpu.sample.index
        resting = not gpu.workers and gpu.sample.processes == {}
        if resting and gpu.node not in unsure and index is not None:
            found[gpu.node].append(index)
    return found


def _near_cpus(node: NodeView, sockets: set[int]) -> set[int]:
    cpus = node.snapshot.host.numa_cpus or {}
    return set().union(*(_numbers(cpus.get(str(socket), "")) for socket in sockets))


def _numbers(listed: str) -> set[int]:
    """The numbers of a list as the kernel writes it: `0-3,8`."""
    found: set[int] = set()
    for part in listed.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), min(int(last or first), int(first) + 8192) + 1))
    return found


RULES: tuple[Rule, ...] = (missing, repeated, unknown, crowded, order, unlike, affinity)

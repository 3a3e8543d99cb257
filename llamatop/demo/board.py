"""How a simulated machine's cards are joined, and the files of /sys and the kernel that say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llamatop.probe.board import address

from .card import Card


def sockets(cards: int) -> int:
    """How many processors a board for so many cards has."""
    return 1 if cards <= 2 else 2


def numa_node(index: int, cards: int) -> int:
    """The processor that a card hangs on."""
    return index * sockets(cards) // max(cards, 1)


def numa_cpus(cards: int, cpus: int) -> dict[str, str]:
    """The processors of each NUMA node, as the kernel lists them."""
    count = sockets(cards)
    each = cpus // count
    return {str(node): f"{node * each}-{(node + 1) * each - 1}" for node in range(count)}


def memory_nodes(cards: int) -> str:
    """The NUMA nodes, as the kernel lists them."""
    return "0" if sockets(cards) == 1 else "0-1"


def link(one: Card, other: Card, cards: int) -> str:
    """How two cards reach each other, in the words of `nvidia-smi topo -m`."""
    if one.kind.nvlinks:
        return f"NV{one.kind.nvlinks}"
    if numa_node(one.index, cards) != numa_node(other.index, cards):
        return "SYS"
    if cards <= 4:
        return "PHB"
    return "PIX" if one.index // 2 == other.index // 2 else "NODE"


def links(card: Card, cards: Sequence[Card]) -> dict[str, str]:
    """A card's links to those of higher index, by UUID."""
    return {
        other.uuid: link(card, other, len(cards)) for other in cards if other.index > card.index
    }


def matrix(cards: Sequence[Card], cpus: int) -> str:
    """What `nvidia-smi topo -m` prints."""
    heads = [f"GPU{card.index}" for card in cards]
    rows = ["\t".join(["", *heads, "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])]
    for card in cards:
        cells = ["X" if card is other else link(card, other, len(cards)) for other in cards]
        node = numa_node(card.index, len(cards))
        near = numa_cpus(len(cards), cpus)[str(node)]
        rows.append("\t".join([f"GPU{card.index}", *cells, near, str(node), "N/A"]))
    return "\n".join(rows) + "\n"


def write(root: Path, cards: Sequence[Card], cpus: int) -> None:
    """The files below /sys that tell of NUMA nodes; no IOMMU is switched on."""
    for node, near in numa_cpus(len(cards), cpus).items():
        _file(root / f"sys/devices/system/node/node{node}/cpulist", near)
    for card in cards:
        place = root / "sys/bus/pci/devices" / address(card.bus)
        _file(place / "numa_node", str(numa_node(card.index, len(cards))))
    (root / "sys/class/iommu").mkdir(parents=True, exist_ok=True)
    (root / "kmsg").touch()


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")

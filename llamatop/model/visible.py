"""CUDA_VISIBLE_DEVICES as CUDA reads it."""

from __future__ import annotations

from collections.abc import Mapping

from .observed import GpuSample


def entries(value: str, gpus: Mapping[str, GpuSample]) -> list[tuple[str, int | None]]:
    """Each entry and the index of its card among `gpus`, None where it names none of them.

    Indices, UUIDs or their beginnings (`GPU-8a`), MIG devices; the first invalid entry (`-1`)
    hides itself and all after it; empty is none. Whether an index is one of a card is not asked.
    """
    found: list[tuple[str, int | None]] = []
    for entry in value.split(","):
        entry = entry.strip()
        if entry.isascii() and entry.isdecimal():
            found.append((entry, int(entry) if len(entry) < 6 else None))
        elif entry.startswith("MIG-GPU-"):
            found.append((entry, _by_uuid(entry.removeprefix("MIG-").split("/")[0], gpus)))
        elif entry.startswith(("GPU-", "MIG-")):
            found.append((entry, _by_uuid(entry, gpus)))
        else:
            break
    return found


def visible_devices(value: str, gpus: Mapping[str, GpuSample]) -> tuple[int, ...] | None:
    """The indices that are visible, in their order; None where an entry names no card here."""
    found: list[int] = []
    for _, index in entries(value, gpus):
        if index is None:
            return None
        if index not in found:
            found.append(index)
    return tuple(found)


def _by_uuid(prefix: str, gpus: Mapping[str, GpuSample]) -> int | None:
    known = [gpu.index for uuid, gpu in gpus.items() if uuid.startswith(prefix)]
    return known[0] if len(known) == 1 else None

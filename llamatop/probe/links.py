"""How the cards of a machine reach each other, in the words of `nvidia-smi topo -m`."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

_ANCESTORS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_MOST_NVLINKS = 18
_WORD = re.compile(r"(NV\d+|PIX|PXB|PHB|NODE|SYS)$")
_CARD = re.compile(r"GPU(\d+)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Links = "Dict[str, Dict[str, str]]"


def read(library: Any, cards: List[Tuple[str, Any, str]]) -> Dict[str, Dict[str, str]]:
    """Links by UUID and the other's UUID, of `cards` as (UUID, handle, PCI bus).

    A pair that the driver does not tell of is left out.
    """
    joined = [_nvlinks(library, handle) for _, handle, _ in cards]
    buses = {bus for _, _, bus in cards}
    found: Dict[str, Dict[str, str]] = {uuid: {} for uuid, _, _ in cards}
    for place, (uuid, handle, bus) in enumerate(cards):
        for other, (other_uuid, other_handle, other_bus) in enumerate(
            cards[place + 1 :], place + 1
        ):
            direct = max(joined[place].get(other_bus, 0), joined[other].get(bus, 0))
            if not direct:
                # Through a switch every card reaches every other by all its links.
                switched = [
                    sum(n for to, n in of.items() if to not in buses)
                    for of in (joined[place], joined[other])
                ]
                direct = min(switched)
            word = "NV%d" % direct if direct else _ancestor(library, handle, other_handle)
            if word is not None:
                found[uuid][other_uuid] = word
    return found


def _ancestor(library: Any, one: Any, other: Any) -> str | None:
    try:
        return _ANCESTORS.get(library.nvmlDeviceGetTopologyCommonAncestor(one, other))
    except (library.NVMLError, AttributeError):
        return None


def _nvlinks(library: Any, handle: Any) -> Dict[str, int]:
    """How many NVLinks are up, by the PCI bus of what is at their other end."""
    found: Dict[str, int] = {}
    for link in range(_MOST_NVLINKS):
        try:
            if not library.nvmlDeviceGetNvLinkState(handle, link):
                continue
            remote = library.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId
        except library.NVMLError as error:
            if getattr(error, "value", None) == 3 and link == 0:
                break
            continue
        except AttributeError:
            break
        bus = remote.decode("ascii", "replace") if isinstance(remote, bytes) else str(remote)
        found[bus] = found.get(bus, 0) + 1
    return found


def matrix(output: str) -> Dict[int, Dict[int, str]]:
    """What `nvidia-smi topo -m` printed: links by index and the higher index."""
    columns: List[int] = []
    found: Dict[int, Dict[int, str]] = {}
    for line in _COLOUR.sub("", output).splitlines():
        words = line.split()
        if not columns:
            columns = [int(match.group(1)) for match in map(_CARD.match, words) if match]
            continue
        row = _CARD.match(words[0]) if words else None
        if row is None:
            continue
        index = int(row.group(1))
        for other, word in zip(columns, words[1:]):  # noqa: B905 - strict came with 3.10
            if other > index and _WORD.match(word):
                found.setdefault(index, {})[other] = word
    return found

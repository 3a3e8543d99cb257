"""How a node's cards hang together: sockets, brackets beside the cards, the matrix of links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct
from rich.style import Style
from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, piece
from llamatop.model.cluster import GpuView
from llamatop.model.figures import UNKNOWN
from llamatop.model.observed import HostSample

# What each of the words of `nvidia-smi topo -m` means, and its role.
WORDS: Mapping[str, tuple[str, str]] = {
    "NV": ("NVLink", "link.direct"),
    "PIX": ("one PCIe switch", "link.switch"),
    "PXB": ("several PCIe switches", "link.switch"),
    "PHB": ("host bridge", "link.host"),
    "NODE": ("within a socket", "link.host"),
    "SYS": ("across sockets", "link.socket"),
}
# In order, the last first: from here on cards share a bracket.
_CLOSE = ("NV", "PIX", "PXB")
_THIN, _DOUBLE = ("┬", "├", "╰", "│"), ("╦", "╠", "╚", "║")


def kind(word: str) -> str:
    """The word without its number: `NV` of `NV12`."""
    return "NV" if word.startswith("NV") else word


class Socket(Struct, frozen=True):
    """The cards on one NUMA node, in their order; `numa` None where no card says where it is."""

    numa: int | None
    cpus: str | None
    cards: tuple[GpuView, ...]


class Board(Struct, frozen=True, dict=True):
    """A node's cards as they are joined; what does not change from tick to tick."""

    cards: tuple[GpuView, ...]
    host: HostSample

    @cached_property
    def sockets(self) -> tuple[Socket, ...]:
        """The cards by NUMA node, the nodes in order; one without number where none is known."""
        cpus = self.host.numa_cpus or {}
        alone = int(next(iter(cpus))) if len(cpus) == 1 and next(iter(cpus)).isdecimal() else None
        found: dict[int | None, list[GpuView]] = {}
        for card in self.cards:
            numa = card.sample.numa_node
            found.setdefault(alone if numa is None else numa, []).append(card)
        order = sorted(found, key=lambda numa: -1 if numa is None else numa)
        return tuple(
            Socket(numa, None if numa is None else cpus.get(str(numa)), tuple(found[numa]))
            for numa in order
        )

    @cached_property
    def links(self) -> Mapping[tuple[str, str], str]:
        """The word between two cards, by both UUIDs either way round."""
        found: dict[tuple[str, str], str] = {}
        for card in self.cards:
            for other, word in (card.sample.links or {}).items():
                found[card.sample.uuid, other] = found[other, card.sample.uuid] = word
        return found

    @property
    def told(self) -> bool:
        """Whether any card's place is known: then sockets are drawn."""
        return any(socket.numa is not None for socket in self.sockets)

    def link(self, one: GpuView, other: GpuView) -> str | None:
        """The word between two cards, None where it is not known."""
        return self.links.get((one.sample.uuid, other.sample.uuid))

    def bracket(self, cards: Sequence[GpuView], place: int) -> tuple[str, str]:
        """What stands beside a card of a socket, and below that where it goes on."""
        above = self._close(cards, place - 1)
        below = self._close(cards, place)
        first, middle, last, on = _DOUBLE if "NV" in (above, below) else _THIN
        if above and below:
            return middle, on
        return (last, " ") if above else (first, on) if below else ("─", " ")

    def heads(self, cards: Sequence[GpuView], place: int) -> bool:
        """Whether a bracket, or a card without one, begins here."""
        return self._close(cards, place - 1) is None

    def _close(self, cards: Sequence[GpuView], place: int) -> str | None:
        if not 0 <= place < len(cards) - 1:
            return None
        word = kind(self.link(cards[place], cards[place + 1]) or "")
        return word if word in _CLOSE else None

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words between any two cards that are known, the closest first."""
        order = list(WORDS)
        known = {word for word in self.links.values() if kind(word) in WORDS}
        return tuple(sorted(known, key=lambda word: (order.index(kind(word)), word)))

    @property
    def uniform(self) -> bool:
        """Whether one word says it all."""
        count = len(self.cards)
        return len(self.words) == 1 and len(self.links) == count * (count - 1)

    @property
    def height(self) -> int:
        """How many lines `link_lines` gives."""
        if len(self.cards) < 2 or not self.words:
            return 0
        return 1 if self.uniform else len(self.cards) + 2


def link_lines(board: Board, width: int, palette: Palette) -> list[Text]:
    """The links between all cards: one line where they are alike, else their matrix."""
    if not board.height:
        return []
    if board.uniform:
        return [_uniform(board, width, palette)]
    room = 5 if 6 + 5 * len(board.cards) <= width else 4
    lines = [piece(" " * 6, palette["faint"])]
    for card in board.cards:
        name = _name(card) if room > 4 else _name(card).removeprefix("GPU")
        lines[0].append(fit(name, room, True), palette["faint"])
    for card in board.cards:
        text = piece(f" {fit(_name(card), 5)}", palette["faint"])
        for other in board.cards:
            if card is other:
                text.append(fit("·", room, True), palette["faint"])
                continue
            word = board.link(card, other) or UNKNOWN
            short = word.replace("NV", "N") if room == 4 else word
            text.append(fit(short, room, True), _style(word, palette))
        lines.append(text)
    legend = piece(" " * 6, palette["faint"])
    for place, name in enumerate(dict.fromkeys(map(kind, board.words))):
        legend.append(" · " if place else " ", palette["faint"])
        legend.append(name, _style(name, palette))
        legend.append(f" {WORDS[name][0]}", palette["faint"])
    legend.truncate(width, overflow="ellipsis")
    return [*lines, legend]


def _uniform(board: Board, width: int, palette: Palette) -> Text:
    word = board.words[0]
    meaning = WORDS[kind(word)][0]
    if len(board.cards) == 2:
        one, other = board.cards
        text = piece(f" {_name(one)} ──", palette["faint"])
        text.append(word, _style(word, palette))
        text.append(f"── {_name(other)}", palette["faint"])
    else:
        text = piece(" any two cards ──", palette["faint"])
        text.append(word, _style(word, palette))
        text.append("──", palette["faint"])
    text.append(f"  {meaning}", palette["dim"])
    text.truncate(width, overflow="ellipsis")
    return text


def _name(card: GpuView) -> str:
    return f"GPU{UNKNOWN if card.sample.index is None else card.sample.index}"


def _style(word: str, palette: Palette) -> Style:
    return palette[WORDS[kind(word)][1]] if kind(word) in WORDS else palette["dim"]

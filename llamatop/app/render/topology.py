"""One node drawn: its sockets, cards and links, the workers over their cards, what each yields."""

from __future__ import annotations

from itertools import zip_longest

from msgspec import Struct
from rich.text import Text

from llamatop.app.render import fit as fits
from llamatop.app.render.board import Board, link_lines
from llamatop.app.render.boardcards import Cards, Scene
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, piece
from llamatop.app.render.yields import HEADED, heading, worker_line
from llamatop.model.cluster import NodeView, WorkerView
from llamatop.model.figures import UNKNOWN, duration
from llamatop.model.gguf import ModelFile
from llamatop.model.text import plain

_LEGEND = 74
_TABLE = 80


class Block(Struct, frozen=True):
    """One node with its cards and workers."""

    node: NodeView
    board: Board
    workers: tuple[WorkerView, ...]

    def height(self, width: int, rows: int) -> int:
        """How many lines `lines` gives, without making them."""
        cards = len(self.board.cards)
        drawn = cards * rows + (len(self.board.sockets) if self.board.told else 1) + 1
        listed = len(self.workers) + sum(map(self._noted, self.workers))
        table = HEADED + listed if listed else 0
        links = self.board.height
        below = max(table, links) if self._beside(width) else table + links
        return 1 + (drawn if cards else 1) + below + 1

    def _noted(self, worker: WorkerView) -> bool:
        """Whether a line below the worker says if it would fit on one card."""
        return len(worker.gpus or ()) > 1 and self._file(worker) is not None

    def _file(self, worker: WorkerView) -> ModelFile | None:
        return self.node.snapshot.models.get(worker.sample.launch.model or "")

    def _beside(self, width: int) -> bool:
        """Whether the matrix stands beside the workers."""
        return width >= self._matrix() + _TABLE and self.board.height > 1 and bool(self.workers)

    def _matrix(self) -> int:
        """The cells that the matrix needs, its legend below it."""
        return max(_LEGEND, 7 + 5 * len(self.board.cards))

    def lines(self, width: int, scene: Scene) -> list[Text]:
        """The node in `width` cells: at least 20, best from 80 on."""
        palette = scene.palette
        made = [_head(self.node, self.board, width, palette)]
        if self.node.stale:
            palette = palette.faded
        if self.board.cards:
            made += Cards(self.board, self.workers, width, scene, palette).lines()
        else:
            made.append(_no_cards(self.node, width, palette))
        if not self._beside(width):
            made += link_lines(self.board, width, palette)
            return [*made, *self._table(width, scene, palette), Text()]
        left = width - self._matrix()
        matrix = link_lines(self.board, width - left, palette)
        for one, other in zip_longest(self._table(left - 3, scene, palette), matrix):
            text = Text(no_wrap=True) if one is None else one
            text.append(" " * (left - text.cell_len))
            made.append(text if other is None else text.append_text(other))
        return [*made, Text()]

    def _table(self, width: int, scene: Scene, palette: Palette) -> list[Text]:
        """What each worker yields, with its note below."""
        made = [heading(width, palette)] if self.workers else []
        cards = {card.sample.index: card for card in self.board.cards}
        for worker in self.workers:
            made.append(worker_line(worker, cards, scene.most, width, palette))
            if self._noted(worker):
                told = fits.note(worker, self._file(worker), self.board.cards) or f"fit {UNKNOWN}"
                note = piece(" ╰ ", palette["faint"])
                made.append(note.append(fit(told, width - 3), palette["dim"]))
        return made


def _head(node: NodeView, board: Board, width: int, palette: Palette) -> Text:
    """A rule with the node's name, what cards it has and its driver."""
    text = piece("── ", palette["faint"])
    text.append(plain(node.name), palette["brand"])
    names: dict[str, int] = {}
    for card in board.cards:
        name = card.sample.name or "unknown card"
        names[name] = names.get(name, 0) + 1
    about = [f"{count} × {plain(name)}" for name, count in names.items()]
    if board.host.driver_version:
        about.append(f"driver {plain(board.host.driver_version)}")
    if about:
        text.append(f" · {' · '.join(about)}", palette["dim"])
    if node.stale and node.age_seconds is not None:
        text.append(f" · ? {duration(node.age_seconds)} old", palette["node.stale"])
    text.append(" ")
    text.truncate(width - 2, overflow="ellipsis")
    text.append("─" * (width - text.cell_len), palette["faint"])
    return text


def _no_cards(node: NodeView, width: int, palette: Palette) -> Text:
    told = node.fault or node.snapshot.faults.get("gpus")
    if told:
        return piece(f" ✗ {fit(told, width - 3)}", palette["gpu.fault"])
    return piece(f" {fit('no GPU is known here', width - 1)}", palette["dim"])

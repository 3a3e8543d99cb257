"""Every node drawn below each other; only those in view are made."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from rich.text import Text

from llamatop.app.render.board import Board
from llamatop.app.render.boardcards import Scene
from llamatop.app.render.palette import Palette
from llamatop.app.render.topology import Block
from llamatop.app.render.words import fit, piece
from llamatop.app.render.yields import kinds, per_gpu
from llamatop.app.rows import cards_by_node
from llamatop.app.widgets.lines import Lines
from llamatop.collect.source import History
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.model.figures import number

_MOST_ROWS = 3


class TopologyView(Lines, can_focus=True):
    """The nodes of a snapshot."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._snapshot: ClusterSnapshot | None = None
        self._history: History | None = None
        self._blocks: list[Block] = []
        self._ends: list[int] = []
        self._made: dict[int, list[Text]] = {}
        self._title = ""
        self._most = 0.0
        self._rows = 1
        # The size that blocks are measured for: a scrollbar changes it in passing.
        self._arranged = (0, 0)

    def show(self, snapshot: ClusterSnapshot, history: History | None) -> None:
        """Take a snapshot."""
        self._snapshot, self._history = snapshot, history
        cards = cards_by_node(snapshot)
        workers: dict[str, list[WorkerView]] = {}
        for worker in snapshot.workers:
            workers.setdefault(worker.node, []).append(worker)
        self._blocks = [
            Block(
                node,
                Board(cards.get(node.name, ()), node.snapshot.host),
                tuple(workers.get(node.name, ())),
            )
            for node in snapshot.nodes
        ]
        self._most = max((per_gpu(worker) or 0.0 for worker in snapshot.workers), default=0.0)
        self._title = _title(snapshot)
        self._arrange()
        self.redraw()

    def _arrange(self) -> None:
        """As many lines a card as let the whole cluster fit, at least one."""
        self._made = {}
        self._arranged = self.drawn_width, self.size.height
        width, room = self.drawn_width, self.size.height - 1
        for rows in range(_MOST_ROWS, 0, -1):
            heights = [block.height(width, rows) for block in self._blocks]
            self._rows = rows
            if sum(heights) <= room:
                break
        self._ends = list(accumulate(heights)) if self._blocks else []

    def count(self) -> int:
        """The lines of all nodes; where they do not fit, so many that the last can be on top."""
        room = self.size.height - 1
        if self._arranged != (self.drawn_width, self.size.height):
            self._arrange()
        if not self._ends or self._ends[-1] <= room:
            return self._ends[-1] if self._ends else 0
        last = self._ends[-2] if len(self._ends) > 1 else 0
        return max(self._ends[-1], last + room)

    def sticky(self) -> list[Text]:
        """What is looked at, and how busy the cards of each kind of worker are."""
        return [piece(fit(self._title, self.drawn_width), self.palette["heading"])]

    def line(self, place: int, width: int) -> Text:
        """The line at `place`; its node is drawn whole, once a snapshot."""
        which = bisect_right(self._ends, place)
        if which == len(self._ends):
            return Text()
        if which not in self._made:
            self._made[which] = self._blocks[which].lines(width, self._scene())
        return self._made[which][place - (self._ends[which - 1] if which else 0)]

    def _scene(self) -> Scene:
        assert self._snapshot is not None
        history = self._history
        return Scene(
            history.gpu_utilization if history is not None else lambda node, uuid: (),
            self.palette,
            self._snapshot.tick,
            self._snapshot.cluster.interval_seconds,
            self._rows,
            self._most,
        )

    def at(self) -> str | None:
        """The node at the top of the view."""
        place = bisect_right(self._ends, round(self.scroll_y))
        return self._blocks[place].node.name if place < len(self._blocks) else None

    def go(self, node: str) -> None:
        """Put a node at the top of the view."""
        for place, block in enumerate(self._blocks):
            if block.node.name == node:
                self.measure()
                begin = self._ends[place - 1] if place else 0
                self.scroll_to(y=begin, animate=False, immediate=True)

    def step(self, by: int) -> None:
        """To the next node, or the one before."""
        top = round(self.scroll_y)
        begins = [0, *self._ends[:-1]]
        later = [begin for begin in begins if begin > top]
        before = [begin for begin in begins if begin < top]
        if by > 0 and later:
            self.scroll_to(y=later[0], animate=False)
        elif by < 0 and before:
            self.scroll_to(y=before[-1], animate=False)

    def repalette(self, palette: Palette) -> None:
        """Take new colours."""
        self._made = {}
        super().repalette(palette)


def _title(snapshot: ClusterSnapshot) -> str:
    rate = snapshot.totals.generation_tokens_per_second
    said = f" topology  {len(snapshot.gpus)} GPUs · {len(snapshot.workers)} workers"
    if rate is not None:
        said += f" · {number(rate)} tok/s"
    cards = {
        (gpu.node, gpu.sample.index): gpu for gpu in snapshot.gpus if gpu.sample.index is not None
    }
    by_kind = kinds(snapshot.workers, cards)
    return f"{said} · {by_kind}" if by_kind else said

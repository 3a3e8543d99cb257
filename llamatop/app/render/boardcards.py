"""A node's cards, a line or more each: where they hang, who is on them, how busy they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from msgspec import Struct
from rich.text import Text

from llamatop.app.render.bars import chart, shade
from llamatop.app.render.board import Board
from llamatop.app.render.detail import axis
from llamatop.app.render.gpus import hot
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, fit_middle, piece
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.figures import UNKNOWN, degrees, gibibytes, percent, watts

SPAN_SECONDS = 180.0
WIDE = 140
_SPLITS = ("layer-split", "tensor-split")

Past = Callable[[str, str], Sequence[float | None]]


class Scene(Struct, frozen=True):
    """What a drawing is made of beside the node: `past` gives a card's utilization by node, UUID.

    `rows` is how many lines a card has (1 to 3), `tick` the snapshot's, `most` the largest rate
    a GPU of the cluster.
    """

    past: Past
    palette: Palette
    tick: int = 0
    interval_seconds: float = 1.0
    rows: int = 1
    most: float = 0.0


class Cards:
    """The lines of a node's cards: gutter, index, PCIe, worker, utilization, history."""

    def __init__(
        self,
        board: Board,
        workers: Sequence[WorkerView],
        width: int,
        scene: Scene,
        palette: Palette,
    ) -> None:
        self.board = board
        self.scene, self.palette = scene, palette
        self.width = width
        self.spine = self.board.told and width >= 60
        self.gutter = 5 if self.spine else 3
        self.index = 6 if width >= 60 else 3
        self.pcie = 16 if width >= 60 else 0
        self.more = 27 if width >= WIDE and scene.rows == 1 else 0
        longest = max((len(_short(worker)) for worker in workers), default=1)
        self.who = max(6, min(longest + 1, 28 if width >= 120 else 18 if width >= 60 else 12))
        if scene.rows > 1:
            self.who = max(self.who, 26 if width >= 100 else self.who)
        before = self.gutter + self.index + self.pcie + 2 + self.who + 6 + self.more
        self.spark = width - before - 2
        # Whole ticks a cell, so that a value stays in its cell as time goes on.
        ticks = SPAN_SECONDS / scene.interval_seconds / max(1, self.spark)
        self.every = max(1, round(ticks))
        self.order = [card for socket in self.board.sockets for card in socket.cards]
        self.brackets = brackets(self.order, workers)

    def lines(self) -> list[Text]:
        """A line a socket, `rows` a card, the axis of time."""
        palette = self.palette
        made = []
        place = 0
        for number, socket in enumerate(self.board.sockets):
            if self.board.told:
                said = f"NUMA {UNKNOWN if socket.numa is None else socket.numa}"
                said += f" · cpu {socket.cpus}" if socket.cpus else ""
                made.append(self._headed(f" {'╭ ' if self.spine else ''}{said}", number == 0))
            elif number == 0:
                made.append(self._headed("", True))
            for of, card in enumerate(socket.cards):
                made += self._card(card, socket.cards, of, place)
                place += 1
        text = Text(" " * (self.width - self.spark - 2), no_wrap=True)
        seconds = self.scene.interval_seconds * self.every
        text.append_text(axis(self.spark + 2, seconds, palette))
        return [*made, text]

    def _headed(self, said: str, first: bool) -> Text:
        """A socket's line; the first has the columns' names too."""
        left = self.gutter + self.index + self.pcie + 2
        if not first or not self.pcie:
            return piece(fit(said, self.width), self.palette["dim"])
        text = piece(fit(said, left - 1) + " ", self.palette["dim"])
        text.append(f"{'worker':<{self.who}}{'busy':>6}", self.palette["faint"])
        return text

    def _card(self, card: GpuView, cards: Sequence[GpuView], of: int, place: int) -> list[Text]:
        palette, sample = self.palette, card.sample
        values = condense(
            self.scene.past(card.node, sample.uuid), self.spark, self.every, self.scene.tick
        )
        # An eighth stays free above a busy card, so that those below each other stay apart.
        eighths = 8 * self.scene.rows
        graph = chart(values, self.spark, self.scene.rows, 100 * eighths / (eighths - 1))
        made = []
        for row in range(self.scene.rows):
            text = self._gutter(cards, of, row)
            if row == 0:
                index = UNKNOWN if sample.index is None else str(sample.index)
                named = f"GPU{index}" if self.index > 3 else index
                text.append(fit(named, self.index), palette["text"])
                if self.pcie:
                    self._pcie(text, card)
            else:
                text.append(" " * (self.index + self.pcie))
            mark, on = self.brackets[place]
            text.append(fit(mark if row == 0 else on, 2), palette["gpu.split"])
            if sample.fault and row == 0:
                room = self.width - text.cell_len
                text.append(fit(f"✗ {sample.fault}", room), palette["gpu.fault"])
                made.append(text)
                continue
            if row == 0:
                self._worker(text, card)
                known = sample.utilization_percent is not None
                busy = percent(sample.utilization_percent)
                text.append(fit(busy, 6, True), palette["text" if known else "dim"])
                if self.more:
                    text.append(fit(f"  {self._more(card, 0)}", self.more), palette["faint"])
            else:
                text.append(fit(self._more(card, row), self.who + 6), palette["faint"])
            text.append(" ")
            glow = shade(palette, "gpu.history", 1 - row / self.scene.rows)
            text.append(graph[row], glow)
            if row == 0 and self.scene.rows == 1 and hot(card):
                text.append("!", palette["gpu.hot"])
            made.append(text)
        return made

    def _gutter(self, cards: Sequence[GpuView], of: int, row: int) -> Text:
        palette = self.palette
        mark, on = self.board.bracket(cards, of)
        heads = [place for place in range(len(cards)) if self.board.heads(cards, place)]
        last = of >= heads[-1]
        text = Text(" ", no_wrap=True)
        if self.spine:
            text.append(
                ("╰─" if last else "├─")
                if row == 0 and of in heads
                else (" " if last else "│") + " ",
                palette["dim"],
            )
        text.append(mark if row == 0 else on, palette["link.direct" if mark in "╦╠╚" else "dim"])
        text.append(" ")
        return text

    def _pcie(self, text: Text, card: GpuView) -> None:
        """Generation and width now, and at best where that is more."""
        sample = card.sample
        now = _lanes(sample.pcie_generation, sample.pcie_width)
        best = _lanes(sample.pcie_generation_max, sample.pcie_width_max)
        busy = (sample.utilization_percent or 0) >= 50
        text.append("PCIe ", self.palette["faint"])
        room = self.pcie - 5
        if now == best or best is None:
            text.append(fit(now or UNKNOWN, room), self.palette["dim"])
            return
        text.append(now or UNKNOWN, self.palette["gpu.hot" if busy and now else "faint"])
        text.append(fit(f"/{best}", room - len(now or UNKNOWN)), self.palette["faint"])

    def _worker(self, text: Text, card: GpuView) -> None:
        names = ", ".join(_tail(name) for name in card.workers) or UNKNOWN
        split = card.mark in _SPLITS or card.mark == "shared"
        role = "gpu.split" if split else "text" if card.workers else "dim"
        text.append(fit_middle(names, self.who), self.palette[role])

    def _more(self, card: GpuView, row: int) -> str:
        sample = card.sample
        memory = gibibytes(sample.memory_used_bytes, sample.memory_total_bytes)
        power = watts(sample.power_watts, sample.power_limit_watts)
        warm = degrees(sample.temperature_celsius) + ("!" if hot(card) else "")
        if self.scene.rows < 3:
            return f"{memory}  {power}  {warm}"
        return f"{memory}  {warm}" if row == 1 else power


def brackets(cards: Sequence[GpuView], workers: Sequence[WorkerView]) -> list[tuple[str, str]]:
    """Beside each card the bracket of the worker that spans it, and what is below that."""
    found = [(" ", " ")] * len(cards)
    places = {card.sample.index: place for place, card in enumerate(cards)}
    for worker in workers:
        on = sorted(places[index] for index in worker.gpus or () if index in places)
        if len(on) < 2:
            continue
        over = range(on[0], on[-1] + 1)
        if any(found[place] != (" ", " ") for place in over):
            # Two that interlace cannot both be drawn: the names must do.
            for place in on:
                found[place] = ("·", found[place][1])
            continue
        for place in over:
            mark = "╮" if place == on[0] else "╯" if place == on[-1] else "┤"
            found[place] = (mark if place in on else "│", " " if place == on[-1] else "│")
    return found


def condense(
    values: Sequence[float | None], cells: int, every: int, tick: int
) -> list[float | None]:
    """Means of `every` values, the newest last; cells begin at whole multiples of ticks."""
    if cells <= 0:
        return []
    newest = tick % every + 1
    end = len(values)
    begin = max(0, end - newest)
    made: list[float | None] = []
    while end > 0 and len(made) < cells:
        known = [value for value in values[begin:end] if value is not None]
        made.append(fmean(known) if known else None)
        begin, end = max(0, begin - every), begin
    return made[::-1]


def _lanes(generation: int | None, width: int | None) -> str | None:
    return None if generation is None or width is None else f"{generation}×{width}"


def _short(worker: WorkerView) -> str:
    return _tail(worker.name)


def _tail(name: str) -> str:
    return name.partition("/")[2] or name

"""Many cards at one glance: a cell a card, high and bright where it is busy, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from rich.style import Style
from rich.text import Text

from llamatop.app.nodes import NodeRow
from llamatop.app.render.bars import gradient
from llamatop.app.render.gpus import hot
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import Pieces, fit, fit_middle
from llamatop.model.cluster import GpuView

LEVELS = "·▁▂▃▄▅▆▇█"
LOST, HOT, OLD, UNKNOWN = "✗", "!", "?", "–"
# Below this a card is drawn idle.
_IDLE_PERCENT = 3.0


def mark(gpu: GpuView, stale: bool, palette: Palette) -> tuple[str, Style]:
    """One card as one cell; the mark alone tells everything, without colour."""
    sample = gpu.sample
    if sample.fault is not None:
        return LOST, palette["gpu.fault"]
    if stale:
        return OLD, palette["node.stale"]
    if hot(gpu):
        return HOT, palette["gpu.hot"]
    percent = sample.utilization_percent
    if percent is None:
        return UNKNOWN, palette["dim"]
    if percent < _IDLE_PERCENT:
        return LEVELS[0], palette["slot.idle"]
    return _scale(palette)[max(1, min(8, round(percent / 12.5)))]


@lru_cache(8)
def _scale(palette: Palette) -> tuple[tuple[str, Style], ...]:
    """The mark of each level."""
    return tuple((glyph, gradient(palette, at / 8)) for at, glyph in enumerate(LEVELS))


def cells(gpus: Sequence[GpuView], stale: bool, palette: Palette, width: int) -> Text:
    """The cards side by side in `width` cells, those alike as one piece."""
    text = Pieces()
    run, style = "", Style.null()
    for gpu in gpus[:width]:
        glyph, own = mark(gpu, stale, palette)
        if own is not style and run:
            text.append(run, style)
            run = ""
        run, style = run + glyph, own
    text.append(run, style)
    return text.append(" " * (width - len(text)))


class HeatLayout(Struct, frozen=True):
    """How nodes of `cards` cells each share `width`; names are cut by `prefix` characters.

    `name` cells stand before every node, `first` cells before the first of each line; 0 is none.
    """

    width: int
    cards: int
    name: int = 0
    first: int = 0
    prefix: int = 0

    @property
    def block(self) -> int:
        """The cells of one node, the place of the cursor before it among them."""
        return 1 + self.cards + (self.name + 2 if self.name else 0)

    @property
    def across(self) -> int:
        """How many nodes a line has; 0 where not even one fits."""
        return (self.width - (self.first + 1 if self.first else 0)) // self.block

    def lines(self, nodes: int) -> int:
        """How many lines so many nodes take."""
        return -(-nodes // self.across)


def layout(nodes: Sequence[NodeRow], width: int, most: int) -> HeatLayout:
    """The clearest way to show all nodes in `most` lines; where none does, the densest."""
    cards = max((len(node.cards) for node in nodes), default=1) or 1
    cards = min(cards, max(1, width - 2))
    names = [node.node for node in nodes]
    whole = min(max(map(len, names), default=0), max(8, width // 4))
    prefix = _prefix(names)
    ways = (
        HeatLayout(width, cards, name=whole),
        HeatLayout(width, cards, name=max(1, whole - prefix), prefix=prefix),
        HeatLayout(width, cards, first=whole),
        HeatLayout(width, cards),
    )
    fitting = (way for way in ways if way.across and way.lines(len(nodes)) <= most)
    return next(fitting, ways[-1])


def _prefix(names: Sequence[str]) -> int:
    """How much of the names is the same and says nothing, up to the first figure."""
    if not names:
        return 0
    first, last = min(names), max(names)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    while shared and any(not name[shared:][:1].isdigit() for name in names):
        shared -= 1
    while shared and names[0][shared - 1].isdigit():
        shared -= 1
    return shared


def line(
    nodes: Sequence[NodeRow], place: int, way: HeatLayout, palette: Palette, selected: str | None
) -> Text:
    """The line at `place`; a mark stands before the node called `selected`."""
    here = nodes[place * way.across : (place + 1) * way.across]
    text = Pieces()
    if way.first and here:
        text.append(" " + fit_middle(here[0].node, way.first), palette["node.name"])
    for node in here:
        chosen = node.node == selected
        text.append("▸" if chosen else " ", palette["brand"])
        if way.name:
            role = "text" if chosen else "node.name"
            text.append(fit(node.node[way.prefix :], way.name) + " ", palette[role])
        stale = node.view.stale or not node.view.reachable
        if node.cards:
            text.append_text(cells(node.cards, stale, palette, way.cards))
        else:
            text.append(fit(OLD if stale else UNKNOWN, way.cards), palette["dim"])
        if way.name:
            text.append(" ")
    return text


def legend(palette: Palette, lost: int, warm: int, old: int) -> tuple[Text, Text]:
    """How many need a look, each with its mark; and what the others mean."""
    faults = Pieces()
    for count, glyph, word, role in (
        (lost, LOST, "lost", "gpu.fault"),
        (warm, HOT, "hot", "gpu.hot"),
        (old, OLD, "old", "node.stale"),
    ):
        if count:
            faults.append(f"  {glyph} {count} {word}", palette[role])
    scale = Pieces("   ")
    scale.append(f"{LEVELS[0]} ", palette["slot.idle"])
    scale.append("idle ", palette["faint"])
    for level in (1, 3, 5, 8):
        scale.append(LEVELS[level], gradient(palette, level / 8))
    return faults, scale.append(" busy", palette["faint"])


def node_at(nodes: Sequence[NodeRow], place: int, way: HeatLayout, x: int) -> NodeRow | None:
    """The node drawn at column `x` of the line at `place`."""
    at = (x - (way.first + 1 if way.first else 0)) // way.block
    found = place * way.across + at
    return nodes[found] if 0 <= at < way.across and found < len(nodes) else None

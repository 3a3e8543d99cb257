"""Which columns of the worker table fit, and how wide each is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace
from rich.text import Text

from llamatop.app.nodes import Line, NodeRow
from llamatop.app.render.cards import MEAN, NARROW, SPREAD
from llamatop.app.render.inference import model_words
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import cells, fit, piece
from llamatop.app.rows import Row
from llamatop.model.cluster import WorkerView

GUTTER = 3
# Below a node's line its workers stand further right.
NODE_GUTTER, INDENT = 4, 2
_MOST_CELLS = 16


class Column(Struct, frozen=True):
    """One column as laid out; `right` aligns figures, `strip` are cells for a card each."""

    key: str
    title: str
    width: int
    right: bool = False
    strip: int = 0


# In the order of the screen. The number is the order of leaving: the highest goes first.
_LEAVES = {
    "worker": 0,
    "state": 0,
    "slots": 1,
    "generation": 2,
    "membership": 3,
    "queue": 4,
    "prompt": 5,
    "gpus": 6,
    "context": 7,
    "model": 8,
    "up": 9,
    "restarts": 10,
    "topology": 11,
}
_NODE_LEAVES = {
    "worker": 0,
    "state": 0,
    "load": 1,
    "slots": 2,
    "generation": 3,
    "temperature": 4,
    "queue": 5,
    "prompt": 6,
    "membership": 7,
    "memory": 8,
    "model": 9,
    "gpus": 10,
}


def gap(width: int) -> str:
    """What stands between two columns."""
    return " " * (2 if width >= 100 else 1)


def columns(listed: Sequence[Line], width: int) -> list[Column]:
    """The columns of workers that fit into `width` cells, as wide as what they have to show."""
    rows = [row for row in listed if isinstance(row, Row)]
    workers = [row.worker for row in rows if row.worker is not None]
    named = [row for row in rows if row.worker is not None] if width < 60 and workers else rows
    names = max((cells(row.shown) for row in named), default=6)
    slot_count = max((worker.slots_total or 0 for worker in workers), default=0)
    models = _longest_model(workers)
    marks = slot_count + 1 if slot_count <= 8 else 0
    numbers = 5 if slot_count >= 10 else 3
    wide = width >= 100
    listed_columns = [
        Column("worker", "worker", max(6, min(names, 32 if wide else max(12, width // 4)))),
        Column("state", "state", 12 if width >= 60 else 11),
        Column("membership", "member", 8),
        Column("slots", "slots", max(5, marks + numbers)),
        Column("generation", "gen/s" if wide else "gen", 5, True),
        Column("prompt", "prompt/s" if width >= 140 else "prompt", 8 if width >= 140 else 6, True),
        Column("queue", "queue" if wide else "q", 5 if wide else 2, True),
        Column("context", "context", 11 if wide else 10, True),
        Column("gpus", "gpu", 4),
        Column("model", "model", max(5, min(models, 12))),
        Column("up", "up", 6, True),
        Column("restarts", "rst", 3, True),
        Column("topology", "placement", 12),
    ]
    return _fitted(listed_columns, width, GUTTER, _LEAVES, (("worker", names), ("model", models)))


def node_columns(nodes: Sequence[NodeRow], width: int) -> list[Column]:
    """The columns of nodes, and of their workers below them, that fit into `width` cells."""
    rows = [row for node in nodes for row in node.rows]
    names = max(
        max((cells(node.shown) for node in nodes), default=4),
        _longest_name(tuple(row.name for row in rows if row.worker is not None)),
    )
    workers = [row.worker for row in rows if row.worker is not None]
    each = max((worker.slots_total or 0 for worker in workers), default=0)
    most = max((node.totals.slots_total or 0 for node in nodes), default=0)
    marks = each + 4 if each <= 8 else 5
    models = _longest_model(workers)
    cards = max((len(node.cards) for node in nodes), default=0)
    strip = min(cards, _MOST_CELLS) if width >= 64 else 0
    wide = width >= 100
    mean = MEAN if width >= 60 else NARROW
    load = (strip + 1 if strip else 0) + mean + (SPREAD if wide else 0)
    listed = [
        Column("worker", "node", max(6, min(names, 32 if wide else max(12, width // 4)))),
        Column("state", "state", 12 if width >= 60 else 11),
        Column("load", "gpus", load, strip=strip),
        Column("slots", "slots", max(5, 2 * len(str(most)) + 1, marks if width >= 60 else 0)),
        Column("generation", "gen/s" if wide else "gen", 5, True),
        Column("prompt", "prompt/s" if width >= 140 else "prompt", 8 if width >= 140 else 6, True),
        Column("queue", "queue" if wide else "q", 5 if wide else 2, True),
        Column("temperature", "temp", 5, True),
        Column("memory", "memory", 11, True),
        Column("membership", "member", 8),
        Column("gpus", "gpu", 4),
        Column("model", "model", max(5, min(models, 12))),
    ]
    return _fitted(listed, width, NODE_GUTTER, _NODE_LEAVES, (("worker", names), ("model", models)))


@lru_cache(8)
def _longest_name(names: tuple[str, ...]) -> int:
    """The cells that workers called `node/short` need below their nodes."""
    shown = (name.removesuffix(".service") for name in names)
    return max((INDENT + cells(name) - name.index("/") - 1 for name in shown), default=0)


def _longest_model(workers: Sequence[WorkerView]) -> int:
    """The cells that the models' names need: few workers have one of their own."""
    kinds = {((s := w.sample).engine, s.model, s.loaded): w for w in workers}
    return max((cells(model_words(worker)) for worker in kinds.values()), default=5)


def _fitted(
    kept: list[Column],
    width: int,
    gutter: int,
    leaves: dict[str, int],
    wanted: Sequence[tuple[str, int]],
) -> list[Column]:
    while total(kept, width, gutter) > width and len(kept) > 2:
        kept.remove(max(kept, key=lambda column: leaves[column.key]))
    # What is left goes to the names that are cut: the workers' first, then the models'.
    for key, most in wanted:
        spare = width - total(kept, width, gutter)
        kept = [
            replace(column, width=column.width + max(0, min(spare, most - column.width)))
            if column.key == key
            else column
            for column in kept
        ]
    return kept


def total(kept: Sequence[Column], width: int, gutter: int = GUTTER) -> int:
    """The cells that the columns take."""
    between = len(gap(width))
    return gutter + sum(column.width + between for column in kept) - between


def titles(kept: Sequence[Column], width: int, palette: Palette, gutter: int = GUTTER) -> Text:
    """The line of column titles."""
    cells = [fit(column.title, column.width, column.right) for column in kept]
    return piece(" " * gutter + gap(width).join(cells), palette["faint"])


def finished(text: Text, width: int, palette: Palette, selected: bool) -> Text:
    """The line filled to its width, and lit where the cursor stands."""
    length = cells(text.plain)
    if length < width:
        text.append(" " * (width - length))
    if selected:
        text.stylize(palette["cursor"])
    return text

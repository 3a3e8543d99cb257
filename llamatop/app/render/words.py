"""Words of an exact width, and text whose parts keep their styles to themselves."""

from __future__ import annotations

import re
from typing import Self

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.style import Style
from rich.text import Span, Text

from llamatop.model.text import plain

# What rich takes character by character too: it knows no dash, ellipsis or tick as narrow.
_NARROW = re.compile("[ -~°·–…✓✗−\u2500-\u25fc]*").fullmatch


class Pieces(Text):
    """A line put together of words that are printable already.

    A tick makes thousands of pieces, and Text looks for control codes in each: it takes thrice as
    long.
    """

    __slots__ = ()

    def __init__(self, start: str = "") -> None:
        super().__init__(start, no_wrap=True)

    def append(self, text: Text | str, style: str | Style | None = None) -> Self:
        """Add words in a style, or another text with its own."""
        if isinstance(text, Text):
            return self.append_text(text)
        if text:
            begin = self._length
            self._length = end = begin + len(text)
            self._text.append(text)
            if style:
                self._spans.append(Span(begin, end, style))
        return self

    def append_text(self, text: Text) -> Self:
        """Add another text, its styles with it."""
        begin = self._length
        self._length = end = begin + text._length
        self._text += text._text
        if text.style:
            self._spans.append(Span(begin, end, text.style))
        if begin:
            self._spans += [
                Span(start + begin, stop + begin, style) for start, stop, style in text._spans
            ]
        else:
            self._spans += text._spans
        return self


def piece(text: str, style: Style) -> Text:
    """A text in one style; unlike with Text(text, style), what is appended does not inherit it."""
    return Pieces().append(text, style)


def cells(text: str) -> int:
    """How many cells of a terminal it takes."""
    return len(text) if _NARROW(text) else cell_len(text)


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` made safe and exactly `width` cells wide: padded, or cut with an ellipsis."""
    text = plain(text)
    length = cells(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    pad = " " * (width - length)
    return pad + text if right else text + pad


def fit_middle(text: str, width: int) -> str:
    """Like `fit`, but what is cut is the middle: a model's file name tells most at both ends."""
    text = plain(text)
    if cells(text) <= width or width < 5:
        return fit(text, width)
    head = (width - 1) // 2
    tail = width - 1 - head
    return fit(set_cell_size(text, head) + "…" + text[-tail:], width)


def fit_name(name: str, width: int) -> str:
    """Like `fit` for `node/unit`: the node and the end of the unit stay, which tell it apart."""
    name = plain(name)
    node, slash, unit = name.partition("/")
    room = width - cell_len(node) - 2
    if cell_len(name) <= width or not slash or room < 6:
        return fit_middle(name, width)
    while cell_len(unit) > room:
        unit = unit[1:]
    return fit(f"{node}/…{unit}", width)


def wrap(text: str, width: int) -> list[str]:
    """`text` made safe, in lines of at most `width` cells; breaks at spaces, loses nothing else."""
    lines: list[str] = []
    current = ""
    for word in plain(text).split(" "):
        for part in chop_cells(word, width) if cell_len(word) > width else [word]:
            if current and cell_len(current) + 1 + cell_len(part) > width:
                lines.append(current)
                current = part
            else:
                current = f"{current} {part}" if current else part
    return [*lines, current]

"""The base of every panel: lines made on demand, repainted only where they changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import cells

# Some milliseconds' work.
PIECE_LINES = 8

# Of a list whose lines fold, with a cursor of its own.
CURSOR_KEYS: list[BindingType] = [
    Binding("down,j", "move(1)", show=False),
    Binding("up,k", "move(-1)", show=False),
    Binding("pagedown,ctrl+f", "page(1)", show=False),
    Binding("pageup,ctrl+b", "page(-1)", show=False),
    Binding("home,g", "edge(0)", show=False),
    Binding("end,G,shift+g", "edge(1)", show=False),
    Binding("left,minus", "fold(True)", show=False),
    Binding("right,plus", "fold(False)", show=False),
]


class Lines(ScrollView, can_focus=False):
    """Shows `line(0)` to `line(count() - 1)` below `sticky()` lines that do not scroll.

    After its data changed call `redraw()`: the visible lines are made again and only those that
    came out different are painted.
    """

    DEFAULT_CSS = """
    Lines {
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        overflow-x: hidden;
        background: $background;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-color: $panel;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G,shift+g", "scroll_end", show=False),
    ]

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.palette = palette
        self._drawn: dict[int, tuple[Text, Strip]] = {}
        self._top: list[Text] | None = None
        self._inks: _Inks | None = None

    @property
    def drawn_width(self) -> int:
        """The cells that lines are drawn for: without the scrollbar where there is one."""
        return self.scrollable_content_region.width

    def count(self) -> int:
        """How many lines there are to scroll through."""
        return 0

    def line(self, place: int, width: int) -> Text:
        """The line at `place`, drawn for `width` cells."""
        return Text()

    def sticky(self) -> list[Text]:
        """The lines that stay on top; their number must not depend on the scroll position."""
        return []

    def repalette(self, palette: Palette) -> None:
        """Take new colours."""
        self.palette = palette
        self.forget()

    def forget(self) -> None:
        """Draw everything again, as after a change of colours or of width."""
        self._drawn.clear()
        self._top = self._inks = None
        self.refresh()

    def measure(self) -> None:
        """Take note of how many lines there are, before scrolling to one that is new."""
        size = Size(0, self.count() + self._top_lines())
        if self.is_attached and size != self.virtual_size:
            self.virtual_size = size

    def repaint(self, *places: int) -> None:
        """Make these lines alone again, as where the cursor was and is."""
        top, height = self._top_lines(), self.size.height
        for place in places:
            self._drawn.pop(place, None)
            y = place + top - round(self.scroll_y)
            if top <= y < height:
                self.refresh(Region(0, y, self.outer_size.width, 1))

    def redraw(self) -> None:
        """Make the visible lines again and paint those that changed."""
        for _ in self.redrawing():
            pass

    def redrawing(self) -> Iterator[None]:
        """The same in pieces of some lines; what changes meanwhile is drawn with the rest."""
        if not self.is_attached:
            return
        self._top = None
        self.measure()
        top = self._top_lines()
        width, height = self.drawn_width, self.size.height
        shown = {self._place(y, top) for y in range(height)}
        self._drawn = {place: drawn for place, drawn in self._drawn.items() if place in shown}
        for begin in range(0, height, PIECE_LINES):
            if begin:
                yield
            lines = range(begin, min(height, begin + PIECE_LINES))
            changed = [y for y in lines if self._remade(y, top, width)]
            if changed:
                whole = self.outer_size.width
                self.refresh(*(Region(0, y, whole, 1) for y in changed))

    def _remade(self, y: int, top: int, width: int) -> bool:
        """Make the line at `y` again; whether it came out different."""
        place = self._place(y, top)
        text = self._text(place, width)
        old = self._drawn.get(place)
        if old is not None and _same(old[0], text):
            return False
        self._drawn[place] = (text, self._strip(text, width))
        return True

    def render_line(self, y: int) -> Strip:
        """One line of the panel."""
        return self._painted(y, self._top_lines(), self.drawn_width)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines as Textual paints them.

        It asks for all of them where one changed, and would look through each for borders and for
        colours that the terminal lacks; here the colours are right already.
        """
        if self.styles.gutter:
            return super().render_lines(crop)
        top, width, whole = self._top_lines(), self.drawn_width, self.outer_size.width
        strips = [self._painted(y, top, width) for y in crop.line_range]
        if width != whole:
            ground = self._ink.ground
            strips = [strip.adjust_cell_length(whole, ground) for strip in strips]
        if crop.column_span != (0, whole):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def _painted(self, y: int, top: int, width: int) -> Strip:
        place = self._place(y, top)
        drawn = self._drawn.get(place)
        if drawn is None or drawn[1].cell_length != width:
            text = self._text(place, width)
            drawn = self._drawn[place] = (text, self._strip(text, width))
        return drawn[1]

    def notify_style_update(self) -> None:
        """The ground that lines are drawn on may be another."""
        super().notify_style_update()
        self._drawn.clear()
        self._inks = None

    def on_resize(self) -> None:
        """Lines are drawn for a width."""
        self._drawn.clear()
        self._top = None
        self.redraw()

    def watch_show_vertical_scrollbar(self) -> None:
        """It comes and goes without a change of size."""
        if self.is_attached:
            self.on_resize()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Lines move: what was drawn for a place stays right for it."""
        super().watch_scroll_y(old_value, new_value)
        if len(self._drawn) > 4 * self.size.height + 100:
            self._drawn.clear()

    def _top_lines(self) -> int:
        return len(self._sticky())

    def _sticky(self) -> list[Text]:
        if self._top is None:
            self._top = self.sticky()
        return self._top

    def _place(self, y: int, top: int) -> int:
        """The line at `y`: those from 0 up scroll, those from -1 down are the sticky ones."""
        return -1 - y if y < top else y - top + round(self.scroll_y)

    def _text(self, place: int, width: int) -> Text:
        if place < 0:
            return self._sticky()[-1 - place]
        return self.line(place, width) if place < self.count() else Text()

    @property
    def _ink(self) -> _Inks:
        if self._inks is None:
            self._inks = _Inks(self.rich_style, self.get_line_filters(), self.background_colors[1])
        return self._inks

    def _strip(self, text: Text, width: int) -> Strip:
        ink = self._ink
        segments = list(_segments(text, ink, self.app.console))
        return Strip(segments, cells(text.plain)).adjust_cell_length(width, ink.ground)


class _Inks(dict[Style, Style]):
    """Each style as the terminal shows it on the panel's ground, worked out once."""

    def __init__(self, ground: Style, filters: Sequence[LineFilter], background: Color) -> None:
        self._base = ground
        self._filters = filters
        self._background = background
        self.ground = self.shown(ground)

    def __missing__(self, style: Style) -> Style:
        shown = self[style] = self.shown(self._base + style)
        return shown

    def shown(self, style: Style) -> Style:
        """The same in colours that the terminal has."""
        segments = [Segment(" ", style)]
        for one in self._filters:
            segments = one.apply(segments, self._background)
        return segments[0].style or style


def _segments(text: Text, ink: _Inks, console: Console) -> Iterator[Segment]:
    """The text on its ground, as `Text.render` has it: pieces side by side need less."""
    words = text.plain
    under = text.style if text.style and isinstance(text.style, Style) else None
    base = ink.ground if under is None else ink[under]
    at, pieces = 0, []
    for start, end, style in text.spans:
        if start < at or not isinstance(style, Style):
            # One style lies over others, as the cursor's does.
            for segment in text.render(console, end=""):
                yield Segment(segment.text, ink[segment.style or Style.null()])
            return
        if start > at:
            pieces.append(Segment(words[at:start], base))
        pieces.append(Segment(words[start:end], ink[style if under is None else under + style]))
        at = end
    yield from pieces
    if at < len(words):
        yield Segment(words[at:], base)


def _same(one: Text, other: Text) -> bool:
    return one.plain == other.plain and one.style == other.style and one.spans == other.spans

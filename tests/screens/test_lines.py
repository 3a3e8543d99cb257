"""Panels paint what Textual would have painted of the same texts, in less time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamatop.app.render.palette import fallback
from llamatop.app.render.words import Pieces, cells, piece
from llamatop.app.widgets.lines import Lines

STYLES = [
    Style.parse(words)
    for words in ("red", "bold #ff8800 on #202020", "bright_black", "dim", "default on blue")
]
styles = st.sampled_from([*STYLES, Style.null(), None])
words = st.text(st.sampled_from("ab 9/–…✓✗°·▁█●漢é"), max_size=6)
parts = st.lists(st.tuples(words, styles, st.booleans()), max_size=8)


def put_together(text: Text, listed: list[tuple[str, Style | None, bool]]) -> Text:
    """Each part appended as words, or as a text of its own."""
    for part, style, whole in listed:
        if whole:
            own = Text(part, style or "")
            text.append_text(own.append(part, style))
        else:
            text.append(part, style)
    return text


@given(parts)
def test_pieces_make_the_same_line(listed: list[tuple[str, Style | None, bool]]) -> None:
    made = put_together(Pieces(" "), listed)
    meant = put_together(Text(" ", no_wrap=True), listed)
    assert (made.plain, made.spans, len(made)) == (meant.plain, meant.spans, len(meant))
    assert made.no_wrap


@given(st.text())
def test_cells_are_those_of_the_terminal(text: str) -> None:
    assert cells(text) == cell_len(text)


def test_what_is_taken_for_narrow_is() -> None:
    listed = [*range(0x20, 0x7F), *map(ord, "°·–…✓✗−"), *range(0x2500, 0x25FD)]
    assert [chr(code) for code in listed if cell_len(chr(code)) != 1] == []


def texts() -> list[Text]:
    """Side by side, with gaps, one over another, in terminal colours, too long, empty."""
    red, orange, grey, dim, blue = STYLES
    under = Text("styled below ", style=orange)
    under.append("and above", red)
    lit = piece("a line under the cursor ", grey).append("here", red)
    lit.stylize(blue)
    return [
        piece("one", red).append("two", orange).append("three"),
        Text("gap ").append("x", grey).append(" gap ").append("y", dim),
        under,
        lit,
        Text("longer than the panel " * 5),
        piece("漢字 wide", orange),
        Text(),
    ]


class Quick(Lines):
    """The texts as panels draw them."""

    def count(self) -> int:
        return 40

    def line(self, place: int, width: int) -> Text:
        return texts()[place] if place < len(texts()) else Text()


class Plain(ScrollView):
    """The same by Textual's own means."""

    def render_line(self, y: int) -> Strip:
        width, ground = self.scrollable_content_region.width, self.rich_style
        text = texts()[y] if y < len(texts()) else Text()
        segments = Segment.apply_style(text.render(self.app.console, end=""), ground)
        return Strip(segments).adjust_cell_length(width, ground)


class Both(App[None]):
    """One beside the other."""

    CSS = """
    Screen { layout: horizontal; }
    Quick, Plain { width: 30; height: 12; overflow-y: hidden; background: $background; }
    """

    def compose(self) -> ComposeResult:
        yield Quick(fallback())
        yield Plain()


def looks(strip: Strip) -> list[tuple[str, Style | None]]:
    """Each cell with its style."""
    return [(sign, style) for text, style, _ in strip for sign in text]


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_lines_look_as_textual_paints_them(theme: str) -> None:
    app = Both()
    async with app.run_test(size=(60, 12)) as pilot:
        app.theme = theme
        await pilot.pause()
        quick, meant = app.query_one(Quick), app.query_one(Plain)
        for crop in (Region(0, 0, 30, 12), Region(4, 1, 20, 5)):
            for one, other in zip(quick.render_lines(crop), meant.render_lines(crop), strict=True):
                assert one.cell_length == other.cell_length == crop.width
                assert looks(one) == looks(other)


async def test_room_around_lines_is_painted_too() -> None:
    app = Both()
    async with app.run_test(size=(60, 12)) as pilot:
        for panel in app.query("Quick, Plain"):
            panel.styles.padding = (1, 0, 0, 2)
        await pilot.pause()
        crop = Region(0, 0, 30, 12)
        quick, meant = app.query_one(Quick), app.query_one(Plain)
        for one, other in zip(quick.render_lines(crop), meant.render_lines(crop), strict=True):
            assert looks(one) == looks(other)


async def test_the_scrollbar_has_its_place() -> None:
    app = Both()
    async with app.run_test(size=(60, 12)) as pilot:
        quick = app.query_one(Quick)
        quick.styles.overflow_y = "auto"
        quick.redraw()
        await pilot.pause()
        assert quick.drawn_width == 29
        strips = quick.render_lines(Region(0, 0, 30, 12))
        assert [strip.cell_length for strip in strips] == [30] * 12

"""Theme files: complete, checked, and never the reason for a missing screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamatop.app import themes
from llamatop.app.render.palette import ROLES
from llamatop.app.themes import ThemeError
from tests.screens.stage import Stage

UI = """
[ui]
background = "#000000"
surface = "#000000"
panel = "#000000"
foreground = "#ffffff"
primary = "#ffffff"
secondary = "#ffffff"
success = "#ffffff"
warning = "#ffffff"
error = "#ffffff"
"""


def write(root: Path, text: str) -> None:
    (root / "mine.toml").write_text(text)


@pytest.mark.parametrize("name", themes.names())
def test_every_shipped_theme_gives_every_role_a_colour(name: str) -> None:
    palette = themes.load(name).palette
    assert set(palette.styles) == set(ROLES)
    colourless = [
        role for role, style in palette.styles.items() if not (style.color or style.bgcolor)
    ]
    assert colourless == []


def test_a_theme_may_leave_roles_out(tmp_path: Path) -> None:
    write(tmp_path, UI + '[roles]\n"slot.busy" = "bold #123456"\n')
    palette = themes.load("mine", tmp_path).palette
    assert palette["slot.busy"].color is not None
    assert palette["slot.busy"].color.name == "#123456"
    assert set(palette.styles) == set(ROLES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dark = maybe", "not valid TOML"),
        (UI + '[roles]\n"slot.bussy" = "#ffffff"', "did you mean 'slot.busy'"),
        (UI + '[roles]\n"slot.busy" = "sky"', "neither a name from [colors]"),
        (UI + '[roles]\n"slot.busy" = 3', "table of strings"),
        ('[colors]\nsky = "blue"' + UI, "#rrggbb"),
        ('[ui]\nbackground = "#000000"', "lacks surface"),
        (UI.replace('panel = "#000000"', 'panel = "sky"'), "panel is 'sky'"),
    ],
)
def test_a_broken_theme_names_file_and_place(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ThemeError) as caught:
        themes.load("mine", tmp_path)
    assert said in str(caught.value)
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "../secrets", "/etc/passwd"])
def test_an_unknown_theme_names_those_there_are(name: str) -> None:
    with pytest.raises(ThemeError, match="altiplano"):
        themes.load(name)


async def test_an_unknown_theme_costs_a_sentence_not_the_screen() -> None:
    app = Stage(theme="nothing")
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await pilot.pause()
        text = app.shown()
        assert "no theme is called 'nothing'" in text
        assert "node1/gpu0" in text
    assert app.palette.name == "altiplano"


async def test_a_theme_is_changed_while_it_runs() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        other = next(name for name in themes.names() if name != "altiplano")
        app.use_theme(other)
        await pilot.pause()
        assert app.palette.name == other
        assert app.table.palette is app.palette
        assert app.theme == other

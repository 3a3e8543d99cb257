"""Theme files: complete, readable, checked, remembered; a broken one never costs the screen."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from textual.pilot import Pilot

from llamatop.app import remembered, theme_files, themes
from llamatop.app.render.palette import ROLES, Palette
from llamatop.app.themes import LoadedTheme, ThemeError
from llamatop.resources import folder
from tests.screens import clusters
from tests.screens.colours import BLINDNESS, apart, contrast
from tests.screens.stage import Stage, settled

SHIPPED = ("altiplano", "laguna", "obsidian", "salar")
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
# Bars and charts are no text: 3:1 will do (WCAG 1.4.11). A track is only their ground.
PICTURES = ("gpu.low", "gpu.busy", "gpu.history")
GROUNDS = ("gpu.track", "cursor")


def write(home: Path, text: str, name: str = "mine") -> Path:
    path = home / "config" / "llamatop" / "themes" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def colour(palette: Palette, role: str) -> str:
    found = palette[role].color
    assert found is not None, f"{role} has no colour"
    return found.get_truecolor().hex


def grounds(theme: LoadedTheme) -> dict[str, str]:
    cursor = theme.palette["cursor"].bgcolor
    assert cursor is not None
    return {
        "background": theme.textual.background or "",
        "surface": theme.textual.surface or "",
        "cursor": cursor.get_truecolor().hex,
    }


def test_these_themes_are_shipped() -> None:
    assert tuple(sorted(theme_files.paths())) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_theme_gives_every_role_a_colour(name: str) -> None:
    palette = themes.load(name).palette
    assert set(palette.styles) == set(ROLES)
    colourless = [
        role for role, style in palette.styles.items() if not (style.color or style.bgcolor)
    ]
    assert colourless == []


@pytest.mark.parametrize("name", SHIPPED)
def test_text_can_be_read_on_every_ground_it_stands_on(name: str) -> None:
    theme = themes.load(name)
    least = 7.0 if name == "obsidian" else 4.5
    poor = [
        f"{role} on {ground}: {ratio:.2f}"
        for role in ROLES
        if role not in (*PICTURES, *GROUNDS)
        for ground, below in grounds(theme).items()
        if (ratio := contrast(colour(theme.palette, role), below)) < least
    ]
    assert poor == []


@pytest.mark.parametrize("name", SHIPPED)
def test_bars_and_charts_stand_out(name: str) -> None:
    theme = themes.load(name)
    least = 4.5 if name == "obsidian" else 3.0
    ground = theme.textual.background or ""
    poor = {
        role: ratio
        for role in PICTURES
        if (ratio := contrast(colour(theme.palette, role), ground)) < least
    }
    assert poor == {}


@pytest.mark.parametrize("eyes", [None, *BLINDNESS])
def test_states_are_apart_to_colour_blind_eyes(eyes: str | None) -> None:
    palette = themes.load("laguna").palette
    states = {
        "busy": "slot.busy",
        "idle": "slot.idle",
        "draining": "member.draining",
        "fault": "worker.fault",
        "hot": "gpu.hot",
        "ok": "worker.ok",
        "layer-split": "gpu.split",
    }
    near = {
        (one, other): difference
        for one, other in combinations(states, 2)
        if (difference := apart(colour(palette, states[one]), colour(palette, states[other]), eyes))
        < (10.0 if {one, other} & {"ok", "layer-split"} else 15.0)
    }
    assert near == {}


def test_red_and_green_alone_would_not_pass() -> None:
    palette = themes.load("altiplano").palette
    sage, poppy = colour(palette, "worker.ok"), colour(palette, "worker.fault")
    assert apart(sage, poppy) > 50
    assert apart(sage, poppy, "deuteranopia") < 20


def test_a_theme_may_leave_roles_out(home: Path) -> None:
    write(home, UI + '[roles]\n"slot.busy" = "bold #123456"\n')
    palette = themes.load("mine").palette
    assert colour(palette, "slot.busy") == "#123456"
    assert set(palette.styles) == set(ROLES)


def test_a_copy_in_the_configuration_directory_goes_before_the_one_shipped(home: Path) -> None:
    text = (folder("themes") / "salar.toml").read_text()
    write(home, text.replace('ember = "#a44e0e"', 'ember = "#0000aa"'), "salar")
    assert colour(themes.load("salar").palette, "slot.busy") == "#0000aa"
    write(home, text, "own")
    assert sorted(theme_files.paths()) == sorted([*SHIPPED, "own"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dark = maybe", "not valid TOML"),
        (
            UI + '[roles]\n"slot.bussy" = "#ffffff"',
            ":13: [roles] slot.bussy: there is no such role (did you mean 'slot.busy'?)",
        ),
        (
            '[colors]\nember = "#112233"' + UI + '[roles]\n"slot.busy" = "bold embre"',
            ":14: [roles] slot.busy: says 'embre', which is neither",
        ),
        (
            '[colors]\nember = "#112233"' + UI + '[roles]\n"slot.busy" = "bold embre"',
            "(did you mean 'ember'?)",
        ),
        (UI + '[roles]\n"slot.busy" = 3', ":13: [roles] slot.busy: must be a string"),
        (UI + '[roles]\n"slot.busy" = "on"', ":13: [roles] slot.busy: cannot be a style"),
        ('[colors]\nsky = "blue"' + UI, ":2: [colors] sky: is 'blue'; write it as \"#rrggbb\""),
        ('[colors]\nbold = "#112233"' + UI, ":2: [colors] bold: is a word of its own"),
        ('[ui]\nbackground = "#000000"', ":1: [ui]: lacks surface, and 7 more"),
        (UI.replace('panel = "#000000"', 'panel = "sky"'), ":5: [ui] panel: is 'sky'"),
        (UI + 'pannel = "#000000"', ":12: [ui] pannel: there is no such key (did you mean 'panel'"),
        ("[role]\n" + UI, ":1: role: there is no such key (did you mean 'roles'?)"),
        ('dark = "yes"' + UI, ":1: dark: must be true or false"),
        ("roles = 3" + UI, ":1: [roles]: must be a table of strings"),
    ],
)
def test_a_broken_theme_names_file_line_key_and_mend(home: Path, text: str, said: str) -> None:
    path = write(home, text)
    with pytest.raises(ThemeError) as caught:
        themes.load("mine")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "../secrets", "/etc/passwd"])
def test_an_unknown_theme_names_those_there_are(name: str) -> None:
    with pytest.raises(ThemeError, match="altiplano"):
        themes.load(name)


def test_an_unknown_theme_names_the_one_that_may_be_meant() -> None:
    with pytest.raises(ThemeError, match="did you mean 'laguna'"):
        themes.load("lagoona")


async def test_an_unknown_theme_costs_a_sentence_not_the_screen() -> None:
    app = Stage(theme="nothing")
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await pilot.pause()
        text = app.shown()
        assert "no theme is called 'nothing'" in text
        assert "node1/gpu0" in text
    assert app.palette.name == "altiplano"


async def switch(pilot: Pilot[None], name: str) -> None:
    """Choose the theme as a person does: in the command palette, by its name."""
    app = pilot.app
    assert isinstance(app, Stage)
    await pilot.press("ctrl+p")
    await pilot.pause()
    await pilot.press(*name)
    for _ in range(1500):
        await pilot.pause(0.02)
        if f"theme {name}" in app.shown():
            break
    await pilot.press("enter")
    for _ in range(1500):
        await pilot.pause(0.02)
        if app.palette.name == name:
            return
    raise AssertionError(f"{name} was not shown:\n{app.shown()}")


async def test_a_theme_is_switched_live_and_remembered(home: Path) -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await switch(pilot, "salar")
        assert app.table.palette is app.palette
        assert app.theme == "salar"
        assert "node1/gpu0" in app.shown()
    kept = home / "state" / "llamatop" / "theme"
    assert kept.read_text() == "salar\n"
    assert [path.name for path in kept.parent.iterdir()] == ["theme"]
    assert Stage().palette.name == "salar"
    assert Stage(theme="obsidian").palette.name == "obsidian"
    assert remembered.theme() == "salar"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"gone\n", "no theme is called 'gone'"),
        (b"\xff\xfe\x00", "no theme is called"),
        (b"../../etc/passwd", "no theme is called"),
        (b"x" * 100_000, "no theme is called"),
    ],
    ids=["unknown", "no text", "path", "long"],
)
async def test_a_broken_memory_is_ignored_with_a_notice(
    home: Path, content: bytes, said: str
) -> None:
    kept = home / "state" / "llamatop" / "theme"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    app = Stage()
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await pilot.pause()
        assert said in " ".join(app.shown().split())
        assert "node1/gpu0" in app.shown()
    assert app.palette.name == "altiplano"


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: path.mkdir()])
def test_a_memory_that_says_nothing_is_none(home: Path, make: Callable[[Path], None]) -> None:
    kept = home / "state" / "llamatop" / "theme"
    kept.parent.mkdir(parents=True)
    make(kept)
    app = Stage()
    assert app.palette.name == "altiplano"
    assert app._theme_fault is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_raises(home: Path) -> None:
    home.mkdir(mode=0o500)
    with pytest.raises(OSError, match="denied"):
        remembered.remember("salar")


async def test_what_cannot_be_remembered_is_said_and_shown_all_the_same(home: Path) -> None:
    (home / "state").mkdir(parents=True)
    (home / "state" / "llamatop").touch()
    app = Stage()
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await pilot.pause()
        app.use_theme("salar")
        await pilot.pause()
        assert "the theme is not remembered" in app.shown()
        assert app.palette.name == "salar"


@pytest.mark.parametrize("name", SHIPPED)
def test_each_theme_once(snap_compare: Callable[..., bool], name: str) -> None:
    app = Stage(clusters.ill(), theme=name)
    assert snap_compare(app, terminal_size=(120, 40), run_before=settled)

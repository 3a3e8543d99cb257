"""Theme files: one TOML a theme, colours by role; a broken one costs a sentence, never a screen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich.style import Style
from textual.theme import Theme

from llamatop.app.render.palette import ROLES, Palette, attributes, fallback
from llamatop.errors import UsageError
from llamatop.resources import folder

DEFAULT = "altiplano"
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
_ATTRIBUTES = frozenset({"bold", "dim", "italic", "underline", "reverse", "on"})
_UI = (
    "background",
    "surface",
    "panel",
    "foreground",
    "primary",
    "secondary",
    "success",
    "warning",
    "error",
)


class ThemeError(UsageError):
    """A theme that does not exist or cannot be used; names the file, the role and the mend."""


@dataclass(frozen=True)
class LoadedTheme:
    """One theme: the palette of the panels and Textual's theme of everything around them."""

    palette: Palette
    textual: Theme


def names() -> list[str]:
    """The themes there are, sorted; same as `ls themes/*.toml`."""
    return sorted(path.stem for path in folder("themes").glob("*.toml"))


def load(name: str, root: Path | None = None) -> LoadedTheme:
    """The theme called `name`; raises ThemeError naming what is wrong and how to mend it."""
    root = root or folder("themes")
    path = root / f"{name}.toml"
    try:
        if path.parent != root:
            raise FileNotFoundError(path)
        text = path.read_text("utf-8")
    except FileNotFoundError:
        there = ", ".join(sorted(file.stem for file in root.glob("*.toml"))) or "none installed"
        raise ThemeError(f"no theme is called {name!r}; there are: {there}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ThemeError(f"{path}: cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{path}: not valid TOML: {error}") from error
    return _theme(path, name, document)


def load_or_fallback(name: str | None, no_color: bool = False) -> tuple[LoadedTheme, str | None]:
    """The theme, or the default one, or terminal colours, with a sentence on why not the first."""
    sentence = None
    loaded = None
    for candidate in dict.fromkeys((name or DEFAULT, DEFAULT)):
        try:
            loaded = load(candidate)
            break
        except ThemeError as error:
            sentence = sentence or f"{error}; showing another theme"
    if loaded is None:
        loaded = LoadedTheme(fallback(), Theme(name="terminal", primary="#c0c0c0"))
    if no_color:
        loaded = LoadedTheme(fallback(plain=True), loaded.textual)
    return loaded, sentence


def _theme(path: Path, name: str, document: Mapping[str, object]) -> LoadedTheme:
    colors = _table(path, document, "colors")
    for color, value in colors.items():
        if not _HEX.match(value):
            raise ThemeError(f'{path}: [colors] {color} is {value!r}; write it as "#rrggbb"')
    styles = dict(fallback().styles)
    for role, value in _table(path, document, "roles").items():
        if role not in ROLES:
            near = get_close_matches(role, ROLES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ThemeError(f"{path}: [roles] has no role {role!r}{hint}")
        styles[role] = _style(path, role, value, colors)
    ui = {
        key: colors.get(value, value)
        for key, value in _table(path, document, "ui").items()
        if key in _UI
    }
    for key, value in ui.items():
        if not _HEX.match(value):
            raise ThemeError(f"{path}: [ui] {key} is {value!r}, which is no name from [colors]")
    missing = [key for key in _UI if key not in ui]
    if missing:
        raise ThemeError(f"{path}: [ui] lacks {', '.join(missing)}")
    textual = Theme(
        name=name,
        dark=document.get("dark") is not False,
        variables={"block-cursor-text-style": "none", "input-selection-background": ui["panel"]},
        primary=ui["primary"],
        secondary=ui["secondary"],
        success=ui["success"],
        warning=ui["warning"],
        error=ui["error"],
        foreground=ui["foreground"],
        background=ui["background"],
        surface=ui["surface"],
        panel=ui["panel"],
    )
    return LoadedTheme(Palette(name, styles), textual)


def _table(path: Path, document: Mapping[str, object], key: str) -> dict[str, str]:
    table = document.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ThemeError(f"{path}: [{key}] must be a table of strings")
    return {str(name): str(value) for name, value in table.items()}


def _style(path: Path, role: str, value: str, colors: Mapping[str, str]) -> Style:
    words = [colors.get(word, word) for word in value.split()]
    for word in words:
        if word not in _ATTRIBUTES and not _HEX.match(word):
            raise ThemeError(
                f"{path}: [roles] {role!r} says {word!r}, which is neither a name from [colors] "
                f"nor #rrggbb nor one of {', '.join(sorted(_ATTRIBUTES))}"
            )
    return Style.parse(" ".join(words))


__all__ = [
    "DEFAULT",
    "LoadedTheme",
    "ThemeError",
    "attributes",
    "load",
    "load_or_fallback",
    "names",
]

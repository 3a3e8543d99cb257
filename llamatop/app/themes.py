"""Theme files: one TOML a theme, colours by role; a broken one costs a sentence, never a screen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct, field
from rich.style import Style
from textual.theme import Theme

from llamatop.app import theme_files
from llamatop.app.render.palette import ROLES, Palette, fallback
from llamatop.config.positions import positions
from llamatop.errors import Problem, UsageError

DEFAULT = "altiplano"
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
_ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "on")
_TABLES = ("colors", "ui", "roles")
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
    """A theme that does not exist or cannot be used; names the file, the line and the mend."""


class LoadedTheme(Struct, frozen=True):
    """One theme: the palette of the panels and Textual's theme of everything around them."""

    palette: Palette
    textual: Theme


def load(name: str) -> LoadedTheme:
    """The theme called `name`; raises ThemeError naming what is wrong and how to mend it."""
    paths = theme_files.paths()
    path = paths.get(name)
    if path is None:
        near = get_close_matches(name, paths, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        there = ", ".join(sorted(paths)) or "none installed"
        raise ThemeError(f"no theme is called {name!r}{hint}; there are: {there}")
    return read(path)


def read(path: Path) -> LoadedTheme:
    """The theme in a file, called as the file is; raises ThemeError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ThemeError(f"{path}: cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{path}: not valid TOML: {error}") from error
    return _Reading(path, text).theme(document)


def load_or_fallback(
    wishes: Iterable[str | None], no_color: bool = False
) -> tuple[LoadedTheme, str | None]:
    """The first wish there is, or the default, or terminal colours, and why not the one wished."""
    sentence = None
    loaded = None
    wished = [name for name in wishes if name is not None][:1]
    for candidate in dict.fromkeys((*wished, DEFAULT)):
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


class _Reading(Struct):
    """One file's document on its way to a theme; what is wrong is gathered in file order."""

    path: Path
    text: str
    problems: list[Problem] = field(default_factory=list)

    def theme(self, document: Mapping[str, object]) -> LoadedTheme:
        """The theme; raises ThemeError with the first problem and how many more there are."""
        self._keys((), document, (*_TABLES, "dark"))
        if not isinstance(document.get("dark", True), bool):
            self._wrong(("dark",), "must be true or false")
        colors = self._colors(document)
        ui = self._ui(document, colors)
        styles = self._styles(document, colors)
        if self.problems:
            self.problems.sort(key=lambda problem: problem.line or 0)
            more = len(self.problems) - 1
            raise ThemeError(f"{self.problems[0]}" + (f", and {more} more" if more else ""))
        textual = Theme(
            name=self.path.stem,
            dark=document.get("dark") is not False,
            variables={
                "block-cursor-text-style": "none",
                "input-selection-background": ui["panel"],
            },
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
        return LoadedTheme(Palette(self.path.stem, styles), textual)

    def _colors(self, document: Mapping[str, object]) -> dict[str, str]:
        colors = {}
        for name, value in self._table(document, "colors").items():
            if name in _ATTRIBUTES:
                self._wrong(("colors", name), "is a word of its own in [roles]; take another name")
            elif not _HEX.match(value):
                self._wrong(("colors", name), f'is {value!r}; write it as "#rrggbb"')
            else:
                colors[name] = value
        return colors

    def _ui(self, document: Mapping[str, object], colors: Mapping[str, str]) -> dict[str, str]:
        table = self._table(document, "ui")
        self._keys(("ui",), table, _UI)
        ui = {}
        for key in _UI:
            if key not in table:
                self._wrong(("ui",), f"lacks {key}")
                continue
            ui[key] = colors.get(table[key], table[key])
            if not _HEX.match(ui[key]):
                said = "which is neither a name from [colors] nor #rrggbb"
                self._wrong(("ui", key), f"is {ui[key]!r}, {said}", _near(ui[key], colors))
        return ui

    def _styles(
        self, document: Mapping[str, object], colors: Mapping[str, str]
    ) -> dict[str, Style]:
        table = self._table(document, "roles")
        self._keys(("roles",), table, tuple(ROLES))
        styles = dict(fallback().styles)
        for role in ROLES.keys() & table.keys():
            words = [colors.get(word, word) for word in table[role].split()]
            unknown = [word for word in words if word not in _ATTRIBUTES and not _HEX.match(word)]
            if unknown:
                text = f"says {unknown[0]!r}, which is neither a name from [colors] nor #rrggbb"
                known = (*colors, *_ATTRIBUTES)
                text += f" nor one of {', '.join(_ATTRIBUTES)}"
                self._wrong(("roles", role), text, _near(unknown[0], known))
                continue
            try:
                styles[role] = Style.parse(" ".join(words))
            except Exception:  # noqa: BLE001 - whatever Rich raises of words in a wrong order
                text = f"cannot be a style: {table[role]!r}; write attributes, a colour, on COLOUR"
                self._wrong(("roles", role), text)
        return styles

    def _table(self, document: Mapping[str, object], key: str) -> dict[str, str]:
        table = document.get(key, {})
        if not isinstance(table, dict):
            self._wrong((key,), "must be a table of strings")
            return {}
        for name, value in table.items():
            if not isinstance(value, str):
                self._wrong((key, name), "must be a string")
        return {name: value for name, value in table.items() if isinstance(value, str)}

    def _keys(
        self, table: tuple[str, ...], found: Mapping[str, object], known: tuple[str, ...]
    ) -> None:
        noun = "role" if table == ("roles",) else "key"
        for key in found:
            if key not in known:
                self._wrong((*table, key), f"there is no such {noun}", _near(key, known))

    def _wrong(self, path: tuple[str, ...], text: str, nearest: str | None = None) -> None:
        line = positions(self.text).get(path)
        key = f"[{path[0]}]" if path[0] in _TABLES else path[0]
        key += f" {path[1]}" if len(path) > 1 else ""
        self.problems.append(Problem(str(self.path), line, key, text, nearest))


def _near(word: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(word, list(known), 1)), None)

"""On which line each key of a TOML text stands; the parsers that are kept do not tell."""

from __future__ import annotations

import re
import tomllib
from typing import Final

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:""|")?(?!")'
    r"|'''.*?'''(?:''|')?(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")


def positions(text: str) -> dict[Path, int]:
    """Line numbers from 1 by path, for a text that tomllib has accepted.

    A path holds keys, and indices in arrays: `("node", 0, "name")`. A table's line is that of its
    header, a value's that of its key.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._found: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            line = self._here()
            if self._text.startswith("[[", self._at):
                self._at += 2
                array = self._header(line)
                index = self._lengths.get(array, 0)
                self._lengths[array] = index + 1
                table = (*array, index)
                self._found[table] = line
                self._expect("]]")
            elif self._text.startswith("[", self._at):
                self._at += 1
                table = self._header(line)
                self._expect("]")
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        if found:
            self._at = found.end()

    def _expect(self, text: str) -> None:
        self._skip(_SPACE)
        if not self._text.startswith(text, self._at):
            raise ValueError(f"{text!r} expected at {self._at}")
        self._at += len(text)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = _STRING.match(self._text, self._at)
            found = quoted or _BARE.match(self._text, self._at)
            if not found:
                raise ValueError(f"a key expected at {self._at}")
            self._at = found.end()
            keys.append(_unquoted(found[0]) if quoted else found[0])
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _header(self, line: int) -> Path:
        """The path in a header; on the way an array of tables means its last table."""
        keys = self._keys()
        path: Path = ()
        for number, key in enumerate(keys):
            path = (*path, key)
            self._found.setdefault(path, line)
            if number < len(keys) - 1 and path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._here()
        keys = self._keys()
        for count in range(1, len(keys)):
            self._found.setdefault((*table, *keys[:count]), line)
        path: Path = (*table, *keys)
        self._found[path] = line
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        string = _STRING.match(self._text, self._at)
        if string:
            self._at = string.end()
        elif self._text.startswith("[", self._at):
            self._items(path, "]")
        elif self._text.startswith("{", self._at):
            self._items(path, "}")
        else:
            self._skip(_SCALAR)

    def _items(self, path: Path, end: str) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text.startswith(",", self._at):
                self._at += 1
            elif self._text.startswith(end, self._at):
                self._at += 1
                return
            elif self._at >= len(self._text):
                raise ValueError(f"{end!r} expected at the end")
            elif end == "}":
                self._pair(path)
            else:
                self._found[(*path, index)] = self._here()
                self._value((*path, index))
                index += 1


def _unquoted(text: str) -> str:
    (key,) = tomllib.loads(f"{text} = 0")
    return key

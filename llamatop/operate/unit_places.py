"""A unit's text as settings and words with their places. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from llamatop.probe import unit_text

_SPACE = " \t\n\r"


class Line(Struct, frozen=True):
    """A setting of a section: `start`:`end` are its value's, over continued lines."""

    section: str
    name: str
    begin: int
    start: int
    end: int


def settings(text: str) -> Iterator[Line]:
    """Every setting in order; comments among continued lines do not end them."""
    section, position = "", 0
    while position < len(text):
        begin = position
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[begin:end].strip()
        if not line or line[0] in "#;":
            position = end + 1
            continue
        while end < len(text) and (
            text[:end].rstrip(" \t\r").endswith("\\") or _is_comment(text, begin, end)
        ):
            following = text.find("\n", end + 1)
            end = len(text) if following < 0 else following
        position = end + 1
        if line.startswith("["):
            section = line
            continue
        name, equals, _ = text[begin:end].partition("=")
        if equals:
            yield Line(section, name.strip(), begin, begin + len(name) + 1, end)


def _is_comment(text: str, begin: int, end: int) -> bool:
    last = text.rfind("\n", begin, end) + 1
    return last > begin and text[last:end].lstrip()[:1] in ("#", ";")


class Word(Struct, frozen=True):
    """A word as systemd reads it, and where it stands, quotes included."""

    value: str
    start: int
    end: int


def words_of(text: str, line: Line) -> list[Word]:
    """The words of a setting with their places, as `unit_text.words` reads them."""
    found: list[Word] = []
    position = line.start
    while position < line.end:
        if text[position] in _SPACE:
            position += 1
        elif text[position] == "\\" and _continues(text, position, line.end):
            position = text.index("\n", position)
            while _next_is_comment(text, position, line.end):
                following = text.find("\n", position + 1, line.end)
                position = line.end if following < 0 else following
        else:
            end = _end_of_word(text, position, line.end)
            value = unit_text.words(text[position:end])
            found.append(Word(value[0] if value else "", position, end))
            position = end
    return found


def _continues(text: str, position: int, end: int) -> bool:
    newline = text.find("\n", position, end)
    return newline >= 0 and not text[position + 1 : newline].strip()


def _next_is_comment(text: str, newline: int, end: int) -> bool:
    following = text.find("\n", newline + 1, end)
    line = text[newline + 1 : end if following < 0 else following]
    return newline + 1 < end and line.lstrip()[:1] in ("#", ";")


def _end_of_word(text: str, position: int, end: int) -> int:
    quote = ""
    while position < end:
        letter = text[position]
        if letter == "\\":
            if not quote and _continues(text, position, end):
                return position
            position += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _SPACE:
            return position
        position += 1
    return min(position, end)


def sets_environment(line: Line) -> bool:
    """Whether it is an Environment= of the service."""
    return line.section == "[Service]" and line.name == "Environment"


def variables_of(texts: Sequence[str]) -> dict[str, str]:
    """What Environment= sets in texts that systemd reads one after another."""
    found: dict[str, str] = {}
    for text in texts:
        for line in settings(text):
            if sets_environment(line):
                words = words_of(text, line)
                found = {} if not words else found
                for word in words:
                    name, equals, value = word.value.partition("=")
                    if equals:
                        found[name] = value
    return found

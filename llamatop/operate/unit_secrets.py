"""A unit's text as it may be shown and written down: without the keys that stand in it. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from llamatop.probe import unit_text
from llamatop.record.redact import HIDDEN, Redactor, names_a_secret

from .unit_copy import Source
from .unit_places import Word, settings, words_of

_VARIABLE = re.compile(r"\w+=[\"']?")
_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+")


class Shown:
    """Calls with a unit's text give it without secrets: those that stand there or in a source."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._redact = Redactor()
        for source in sources:
            for _, text in source.files:
                self._learn(text)
            for name, value in (source.environment or {}).items():
                if names_a_secret(name):
                    self._redact.hide([value, *value.split(",")])

    def __call__(self, text: str) -> str:
        """`text` with `***` for each secret: by its place, by its value, by how it looks."""
        self._learn(text)
        for start, end, _ in reversed(list(_places(text))):
            text = text[:start] + HIDDEN + text[end:]
        return self._redact(text)

    def _learn(self, text: str) -> None:
        for start, end, value in _places(text):
            raw = text[start:end]
            self._redact.hide([raw, raw.strip("'\""), value, *value.split(",")])


def diff(old: Source, path: str, text: str) -> str:
    """The whole new file, as it differs from what the old unit has; secrets hidden."""
    texts = ("".join(text for _, text in old.files), text)
    shown = Shown([old])
    before, after = ([f"{line}\n" for line in shown(text).splitlines()] for text in texts)
    return "".join(difflib.unified_diff(before, after, old.files[0][0], path, n=len(after)))


def _places(text: str) -> Iterator[tuple[int, int, str]]:
    """Where a secret stands, and what systemd reads there; in the order of the text."""
    for line in settings(text):
        words = words_of(text, line)
        if line.name.startswith("SetCredential"):
            if words:
                yield words[0].start, words[-1].end, text[words[0].start : words[-1].end]
            continue
        yield from _of_words(text, words)


def _of_words(text: str, words: list[Word]) -> Iterator[tuple[int, int, str]]:
    flagged = False
    for word in words:
        if flagged:
            yield word.start, word.end, word.value
            flagged = False
            continue
        raw = text[word.start : word.end]
        begin = _value_of(raw)
        if begin is not None:
            last = raw[-1] if raw[0] in "'\"" and raw[-1] == raw[0] else ""
            end = word.end - len(last)
            read = unit_text.words(f'"{text[word.start + begin : end]}"')
            yield word.start + begin, end, read[0] if read else ""
        elif word.value.startswith("-"):
            flagged = names_a_secret(word.value)
        else:
            yield from _of_words(text, _inner(text, word))


def _inner(text: str, word: Word) -> list[Word]:
    """The words of a command line that is one word of another, or a variable's value."""
    start, end = word.start, word.end
    if text[start] in "'\"" and text[end - 1] == text[start]:
        start, end = start + 1, end - 1
    variable = _VARIABLE.match(text, start, end)
    start = variable.end() if variable else start
    found = [Word(m[0].strip("'\""), *m.span()) for m in _WORD.finditer(text, start, end)]
    return found if len(found) > 1 else []


def _value_of(raw: str) -> int | None:
    """Where the value begins in NAME=value or --name=value, where the name is one of secrecy."""
    at = raw.find("=")
    while at >= 0:
        if names_a_secret(raw[:at].rpartition("=")[2].strip("'\"")):
            return at + 1
        at = raw.find("=", at + 1)
    return None

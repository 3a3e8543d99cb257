"""nginx's own way of cutting a file into words, keeping where every word stands.

crossplane has the same lexer but keeps lines only, and unescapes as it goes: an edit that leaves
every other byte alone needs offsets. The rules here are those of `ngx_conf_read_token`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from llamatop.errors import NginxSyntaxError

_SPACE = " \t\r\n"
# Blanks and comments; a word without anything special in it, up to what ends it.
_BETWEEN = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SIMPLE = re.compile(r"[^ \t\r\n;{\"'\\$][^ \t\r\n;{\\$]*(?=[ \t\r\n;{])")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "t": "\t", "r": "\r", "n": "\n"}


class Word(Struct, frozen=True):
    """One word of a directive: `value` as nginx reads it, `start`:`end` with any quotes."""

    value: str
    start: int
    end: int
    line: int


class Directive(Struct, frozen=True):
    """Words ended by `;` or `{`, or a lone `}`; `end` is the offset just behind that sign."""

    words: tuple[Word, ...]
    ended_by: Literal[";", "{", "}"]
    end: int
    line: int

    @property
    def name(self) -> str:
        """The first word, "" for a closing brace."""
        return self.words[0].value if self.words else ""


def decode(data: bytes) -> str:
    """The file as text in which one character is one byte, so that offsets agree."""
    return data.decode("latin-1")


def encode(text: str) -> bytes:
    """The bytes again; raises UnicodeEncodeError for a character that stands for none."""
    return text.encode("latin-1")


def directives(text: str, file: str) -> Iterator[Directive]:
    """Every directive and closing brace in order; raises NginxSyntaxError as `nginx -t` would.

    Braces are balanced over the whole text. A Lua block's body is skipped.
    """
    position, line = 0, 1
    open_lines: list[int] = []
    while True:
        directive = _directive(text, position, line, file)
        if directive is None:
            if open_lines:
                block = f'expecting "}}" for the block of line {open_lines[-1]}'
                raise NginxSyntaxError(
                    file, text.count("\n") + 1, f"unexpected end of file, {block}"
                )
            return
        line += text.count("\n", position, directive.end)
        position = directive.end
        if directive.ended_by == "{":
            open_lines.append(directive.line)
        elif directive.ended_by == "}":
            if not open_lines:
                raise NginxSyntaxError(file, directive.line, 'unexpected "}"')
            open_lines.pop()
        yield directive
        if directive.ended_by == "{" and directive.name.endswith("_by_lua_block"):
            end = _lua_end(text, position, line, file)
            line += text.count("\n", position, end)
            position = end


def _directive(text: str, position: int, line: int, file: str) -> Directive | None:
    """The next directive from `position`, None at the end of the file."""
    words: list[Word] = []
    length = len(text)
    while True:
        between = _BETWEEN.match(text, position)
        if between is not None:
            line += text.count("\n", position, between.end())
            position = between.end()
        if position == length:
            if words:
                raise NginxSyntaxError(file, line, 'unexpected end of file, expecting ";" or "}"')
            return None
        sign = text[position]
        if sign == "}":
            if words:
                raise NginxSyntaxError(file, line, 'unexpected "}"')
            return Directive((), "}", position + 1, line)
        if sign == ";" or sign == "{":
            if not words:
                raise NginxSyntaxError(file, line, f'unexpected "{sign}"')
            ended_by: Literal[";", "{"] = ";" if sign == ";" else "{"
            return Directive(tuple(words), ended_by, position + 1, words[0].line)
        end = _word_end(text, position)
        if end is None:
            raise NginxSyntaxError(
                file,
                text.count("\n") + 1,
                f"unexpected end of file, expecting the end of the word of line {line}",
            )
        quoted = sign in "\"'"
        if quoted and end < length and text[end] not in _SPACE + ";{)":
            raise NginxSyntaxError(file, line, f'unexpected "{text[end]}"')
        raw = text[position + 1 : end - 1] if quoted else text[position:end]
        words.append(Word(_unescape(raw), position, end, line))
        line += text.count("\n", position, end)
        position = end


def _word_end(text: str, start: int) -> int | None:
    """The offset behind the word that begins at `start`, None where the file ends inside it."""
    simple = _SIMPLE.match(text, start)
    if simple is not None:
        return simple.end()
    quote = text[start] if text[start] in "\"'" else None
    position = start + 1 if quote else start
    variable = False
    while position < len(text):
        sign = text[position]
        if sign == "{" and variable:
            position += 1
            continue
        variable = sign == "$"
        if sign == "\\":
            position += 2
            continue
        if quote is not None:
            if sign == quote:
                return position + 1
        elif sign in _SPACE or sign in ";{":
            return position
        position += 1
    return None


def _unescape(raw: str) -> str:
    if "\\" not in raw:
        return raw
    out: list[str] = []
    position = 0
    while position < len(raw):
        following = raw[position + 1 : position + 2]
        if raw[position] == "\\" and following in _ESCAPES and following:
            out.append(_ESCAPES[following])
            position += 2
        else:
            out.append(raw[position])
            position += 1
    return "".join(out)


def _lua_end(text: str, position: int, line: int, file: str) -> int:
    """The offset of the brace that closes a Lua block: strings and comments do not count."""
    depth, start_line = 0, line
    while position < len(text):
        sign = text[position]
        if text.startswith("--", position) and not text.startswith("--[[", position):
            newline = text.find("\n", position)
            position = len(text) if newline < 0 else newline
        elif text.startswith(("--[[", "[["), position):
            closing = text.find("]]", position)
            position = len(text) if closing < 0 else closing + 2
            continue
        elif sign in "\"'":
            position += 1
            while position < len(text) and text[position] != sign:
                position += 2 if text[position] == "\\" else 1
        elif sign == "{":
            depth += 1
        elif sign == "}":
            if depth == 0:
                return position
            depth -= 1
        position += 1
    raise NginxSyntaxError(file, start_line, 'unexpected end of file, expecting "}" of a Lua block')

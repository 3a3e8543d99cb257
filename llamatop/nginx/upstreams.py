"""Upstreams and their server lines, over includes, from files already fetched."""

from __future__ import annotations

import fnmatch
import functools
import posixpath
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from llamatop.errors import NginxSyntaxError
from llamatop.model.observed import UpstreamMember

from .directives import Directive, Word, decode, directives

DEEPEST_INCLUDE = 32


class ServerLine(Struct, frozen=True):
    """One `server` line of an upstream: its file, line and words with their offsets.

    `end` is the offset of its `;`.
    """

    upstream: str
    file: str
    line: int
    words: tuple[Word, ...]
    end: int

    @property
    def address(self) -> str:
        """The server as written, `unix:/path` and a missing port included."""
        return self.words[1].value

    @property
    def parameters(self) -> tuple[Word, ...]:
        """What stands behind the address."""
        return self.words[2:]

    @property
    def down(self) -> bool:
        """Whether one of the parameters is `down`."""
        return any(word.value == "down" for word in self.parameters)

    def member(self) -> UpstreamMember:
        """The same as the model has it; a weight that is no number is None."""
        given = dict(word.value.split("=", 1) for word in self.parameters if "=" in word.value)
        weight, fails = given.get("weight"), given.get("max_fails")
        return UpstreamMember(
            upstream=self.upstream,
            address=self.address,
            down=self.down,
            weight=int(weight) if weight is not None and weight.isdecimal() else None,
            backup=any(word.value == "backup" for word in self.parameters),
            file=self.file,
            line=self.line,
            max_fails=int(fails) if fails is not None and fails.isdecimal() else None,
        )


def members(files: Mapping[str, bytes], main: str) -> tuple[UpstreamMember, ...]:
    """Every server line of every upstream in the order nginx reads them.

    `files` are by path as nginx opens them (a symlink by its own name); `main` is the path that
    `nginx -t` names. A file that an include matches but `files` lacks is passed over: the node
    sends the files that matter. Raises NginxSyntaxError with file and line.
    """
    return tuple(line.member() for line in server_lines(files, main))


def server_lines(files: Mapping[str, bytes], main: str) -> tuple[ServerLine, ...]:
    """The same as `members` with the words' offsets in their file."""
    if main not in files:
        raise NginxSyntaxError(main, 1, "the main file was not read")
    return tuple(_lines(files, main, main, None, ()))


def members_of(data: bytes, file: str, upstream: str) -> tuple[UpstreamMember, ...]:
    """The members of `upstream` in one file's bytes; see `lines_of`."""
    return tuple(line.member() for line in lines_of(data, file, upstream))


# A plan over many members asks the same of the same bytes again and again.
@functools.lru_cache(maxsize=8)
def lines_of(data: bytes, file: str, upstream: str) -> tuple[ServerLine, ...]:
    """The server lines in one file's bytes that belong to `upstream`.

    Lines outside any block belong to whatever upstream includes the file, so they count as well.
    """
    lines: list[ServerLine] = []
    blocks: list[str | None] = []
    for directive in directives(decode(data), file):
        if directive.ended_by == "{":
            blocks.append(_upstream_name(directive))
        elif directive.ended_by == "}":
            blocks.pop()
        elif _is_server(directive) and (not blocks or blocks[-1] == upstream):
            lines.append(_server(upstream, file, directive))
    return tuple(lines)


def block_line(data: bytes, file: str, upstream: str) -> int | None:
    """The line on which `upstream` begins in one file's bytes, None where it is not in there."""
    for directive in directives(decode(data), file):
        if directive.ended_by == "{" and _upstream_name(directive) == upstream:
            return directive.line
    return None


def shutdown_timeout(files: Mapping[str, bytes], main: str) -> str | None:
    """`worker_shutdown_timeout` as the main file has it, None where nginx waits for ever.

    With it a reload cuts the streams that last longer. Raises NginxSyntaxError.
    """
    depth = 0
    for directive in directives(decode(files.get(main, b"")), main):
        depth += {"{": 1, "}": -1}.get(directive.ended_by, 0)
        if depth == 0 and directive.name == "worker_shutdown_timeout":
            return directive.words[1].value if len(directive.words) > 1 else None
    return None


def dump(stdout: bytes) -> tuple[dict[str, bytes], str]:
    """What `nginx -T` printed, as (files by path, the main file's path).

    Raises NginxSyntaxError where it holds no file.
    """
    marks = list(re.finditer(rb"^# configuration file (.+):\n", stdout, re.MULTILINE))
    if not marks:
        raise NginxSyntaxError("nginx -T", 1, "it printed no configuration file")
    files: dict[str, bytes] = {}
    ends = [mark.start() for mark in marks[1:]] + [len(stdout)]
    for mark, end in zip(marks, ends, strict=True):
        # nginx prints a newline behind each file.
        files[mark[1].decode("utf-8", "surrogateescape")] = stdout[mark.end() : end][:-1]
    return files, marks[0][1].decode("utf-8", "surrogateescape")


def _lines(
    files: Mapping[str, bytes], main: str, file: str, inside: str | None, chain: tuple[str, ...]
) -> Iterator[ServerLine]:
    if file in chain or len(chain) > DEEPEST_INCLUDE:
        raise NginxSyntaxError(file, 1, f"it includes itself through {' > '.join(chain)}")
    blocks: list[str | None] = [inside]
    for directive in directives(decode(files[file]), file):
        if directive.ended_by == "{":
            blocks.append(_upstream_name(directive))
        elif directive.ended_by == "}":
            blocks.pop()
        elif directive.name == "include" and len(directive.words) == 2:
            for path in included(files, main, directive.words[1].value):
                yield from _lines(files, main, path, blocks[-1], (*chain, file))
        elif _is_server(directive) and blocks[-1] is not None:
            yield _server(blocks[-1], file, directive)


def included(files: Mapping[str, bytes], main: str, pattern: str) -> list[str]:
    """The known files that an include matches, in glob(3)'s order; relative to the main file."""
    pattern = posixpath.join(posixpath.dirname(main), pattern)
    if not any(sign in pattern for sign in "*?["):
        return [pattern] if pattern in files else []
    return sorted((path for path in files if _glob_matches(path, pattern)), key=str.encode)


def _glob_matches(path: str, pattern: str) -> bool:
    """As glob(3): a star stops at a slash and does not match a leading dot."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        fnmatch.fnmatchcase(part, want) and (part[:1] != "." or want[:1] == ".")
        for part, want in zip(parts, wanted, strict=True)
    )


def _upstream_name(directive: Directive) -> str | None:
    words = directive.words
    return words[1].value if directive.name == "upstream" and len(words) == 2 else None


def _server(upstream: str, file: str, directive: Directive) -> ServerLine:
    return ServerLine(upstream, file, directive.line, directive.words, directive.end - 1)


def _is_server(directive: Directive) -> bool:
    return directive.ended_by == ";" and directive.name == "server" and len(directive.words) > 1

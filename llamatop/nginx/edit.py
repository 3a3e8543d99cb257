"""A server line marked down and up in nginx's files, every other byte as it was."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from llamatop.errors import NginxSyntaxError

from .directives import decode, directives, encode
from .upstreams import ServerLine, block_line, lines_of


def edit(data: bytes, upstream: str, address: str, down: bool, file: str = "nginx") -> bytes:
    """`data` with `down` put on or taken off the server lines of `address` in `upstream`.

    Every other byte stays: adding and then taking off gives the same bytes. A line that already
    is as asked is left as it is. `address` is as written in the file; `file` is for messages.
    Raises NginxSyntaxError with file and line, or KeyError where there is no such server line.
    """
    lines = [line for line in lines_of(data, file, upstream) if line.address == address]
    if not lines:
        raise KeyError(_missing(data, upstream, address, file))
    for line in reversed(lines):
        if line.down != down:
            data = _add(data, line) if down else _take_off(data, line)
    _check(data, file, upstream, address, down)
    return data


def written(data: bytes, upstream: str, address: str, file: str = "nginx") -> tuple[str, ...]:
    """Each server line of `address` in `upstream` as it stands there, from `server` to before `;`.

    One character is one byte (latin-1). Raises NginxSyntaxError with file and line.
    """
    lines = lines_of(data, file, upstream)
    return tuple(decode(_text(data, line)) for line in lines if line.address == address)


def rewrite(
    data: bytes, upstream: str, address: str, texts: Mapping[str, str], file: str = "nginx"
) -> bytes:
    """`data` with each server line of `address` that stands as a key of `texts` put as its value.

    Both as `written` gives them; a text that would change more than `down` is passed over. Raises
    NginxSyntaxError with file and line.
    """
    if not texts:
        return data
    for line in reversed(lines_of(data, file, upstream)):
        text = texts.get(decode(_text(data, line)))
        if line.address == address and text is not None and _same_but_down(line, text):
            data = data[: line.words[0].start] + encode(text) + data[line.end :]
    return data


def _same_but_down(line: ServerLine, text: str) -> bool:
    try:
        encode(text)
        found = list(directives(f"{text};", line.file))
    except (NginxSyntaxError, UnicodeEncodeError):
        return False
    if len(found) != 1 or found[0].ended_by != ";":
        return False
    stands, stood = (
        [word.value for word in words if word.value != "down"]
        for words in (line.words, found[0].words)
    )
    return stands == stood


def _text(data: bytes, line: ServerLine) -> bytes:
    return data[line.words[0].start : line.end]


def _missing(data: bytes, upstream: str, address: str, file: str) -> str:
    begins = block_line(data, file, upstream)
    if begins is None:
        return f"{file}: no upstream {upstream}"
    return f"{file}:{begins}: no server {address} in upstream {upstream}"


def diff(path: str, before: bytes, after: bytes) -> str:
    """The exact unified diff, "" where nothing changes; a carriage return shows as it is."""
    sides = [_split(side) for side in (before, after)]
    out: list[str] = []
    for line in difflib.unified_diff(sides[0], sides[1], path, path, n=2):
        out.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(out)


def _split(data: bytes) -> list[str]:
    """Lines with their newline; bytes that are no UTF-8 stay visible as escapes."""
    pieces = data.decode("utf-8", "backslashreplace").split("\n")
    return [f"{piece}\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _add(data: bytes, line: ServerLine) -> bytes:
    end = line.words[-1].end
    return data[:end] + b" down" + data[end:]


def _take_off(data: bytes, line: ServerLine) -> bytes:
    for number in range(len(line.words) - 1, 1, -1):
        word = line.words[number]
        if word.value != "down":
            continue
        gap = data[line.words[number - 1].end : word.start]
        # A gap with a comment in it ends that comment: it has to stay.
        start = word.start if gap.strip() else line.words[number - 1].end
        data = data[:start] + data[word.end :]
    return data


def _check(data: bytes, file: str, upstream: str, address: str, down: bool) -> None:
    """The edit read again: a wrong one must never reach a node."""
    for line in lines_of(data, file, upstream):
        if line.address == address and line.down != down:
            raise NginxSyntaxError(file, line.line, f"the edit of server {address} did not hold")

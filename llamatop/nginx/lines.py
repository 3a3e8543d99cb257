"""Server lines added beside another one, and taken away again, every other byte as it was."""

from __future__ import annotations

from llamatop.errors import NginxSyntaxError

from .directives import decode, directives, encode
from .upstreams import ServerLine, lines_of


def add(data: bytes, upstream: str, beside: str, address: str, file: str = "nginx") -> bytes:
    """`data` with a server line of `address` behind that of `beside`, with the same parameters.

    `down` is not taken over. Where the line of `beside` is alone on its line, so is the new one,
    as far in. An address that has a line already stays as it is. Raises KeyError where `beside`
    has none, NginxSyntaxError with file and line.
    """
    lines = lines_of(data, file, upstream)
    if any(line.address == address for line in lines):
        return data
    line = next((line for line in reversed(lines) if line.address == beside), None)
    if line is None:
        raise KeyError(f"{file}: no server {beside} in upstream {upstream}")
    kept = [word for word in line.parameters if word.value != "down"]
    words = [b"server", encode(address), *(data[word.start : word.end] for word in kept)]
    text = b" ".join(words) + b";"
    end = _end_of_line(data, line)
    if end is None:
        data = data[: line.end + 1] + b" " + text + data[line.end + 1 :]
    else:
        indent = data[_begin_of_line(data, line) : line.words[0].start]
        newline = b"\r\n" if data[:end].endswith(b"\r\n") else b"\n"
        whole = indent + text + newline if data[:end].endswith(b"\n") else newline + indent + text
        data = data[:end] + whole + data[end:]
    _check(data, file, upstream, address, there=True)
    return data


def remove(data: bytes, upstream: str, address: str, file: str = "nginx") -> bytes:
    """`data` without the server lines of `address`: after `add` the very bytes of before.

    Raises NginxSyntaxError with file and line.
    """
    for line in reversed(lines_of(data, file, upstream)):
        if line.address != address:
            continue
        start, end = line.words[0].start, line.end + 1
        begin, whole = _begin_of_line(data, line), _end_of_line(data, line, comments=False)
        if whole is None:
            start -= data[start - 1 : start] == b" "
        elif data[:whole].endswith(b"\n"):
            start, end = begin, whole
        else:
            # The last line of a file that ends without a newline.
            start, end = max(begin - 1, 0), whole
        data = data[:start] + data[end:]
    _check(data, file, upstream, address, there=False)
    return data


def _begin_of_line(data: bytes, line: ServerLine) -> int:
    return data.rfind(b"\n", 0, line.words[0].start) + 1


def _end_of_line(data: bytes, line: ServerLine, comments: bool = True) -> int | None:
    """Where the line ends, newline included; None where it is not alone on its line."""
    newline = data.find(b"\n", line.end)
    end = len(data) if newline < 0 else newline + 1
    before = data[_begin_of_line(data, line) : line.words[0].start]
    after = data[line.end + 1 : end].strip()
    alone = not before.strip() and (not after or (comments and after.startswith(b"#")))
    return end if alone else None


def _check(data: bytes, file: str, upstream: str, address: str, there: bool) -> None:
    """The edit read again: a wrong one must never reach a node."""
    list(directives(decode(data), file))
    found = [line for line in lines_of(data, file, upstream) if line.address == address]
    if bool(found) is not there or any(line.down for line in found if there):
        raise NginxSyntaxError(file, 1, f"the edit of server {address} did not hold")

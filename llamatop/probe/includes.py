"""The files of an nginx configuration, includes followed, read again when one changes."""

from __future__ import annotations

import glob
import os
import re

from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

_MOST_FILES = 200
_MOST_BYTES = 512 * 1024
_MOST_TOTAL_BYTES = 2 * 2**20
# what says where requests go, how, and who may send them
_TELLING = re.compile(
    rb"upstream|server|proxy_|listen|auth_|allow|deny|ssl_verify|return|internal|_by_lua|js_access"
    rb"|keepalive|least_|hash|random|sticky"
)


class Files:
    """`read` gives {path: {text, target, mtime}}; `newest` is the latest change in Unix seconds."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.newest: float | None = None
        self._found: Dict[str, Any] = {}
        self._marks: Dict[str, Any] = {}
        self._globs: Dict[str, List[str]] = {}
        self._asked: Tuple[str, str] | None = None

    def read(self, main: str, prefix: str) -> Dict[str, Any]:
        """The files that matter: the main one and those that tell of members, or how to them."""
        changed = self._asked != (main, prefix)
        changed = changed or any(_mark(path) != mark for path, mark in self._marks.items())
        changed = changed or any(_expand(g) != paths for g, paths in self._globs.items())
        if changed:
            self._asked = (main, prefix)
            self._read_all(main, prefix)
        return self._found

    def _read_all(self, main: str, prefix: str) -> None:
        self.fault = None
        self.newest = None
        self._found = {}
        self._marks = {}
        self._globs = {}
        total = 0
        waiting = [main]
        base = os.path.dirname(main) or prefix
        while waiting and len(self._marks) < _MOST_FILES:
            path = waiting.pop(0)
            if path in self._marks:
                continue
            # before reading: a change in between is seen at the next tick
            mark = self._marks[path] = _mark(path)
            try:
                data = procfs.read(path, _MOST_BYTES + 1)
            except OSError as error:
                reason = (error.strerror or "unreadable").lower()
                mend = "; let this user read it (chmod o+r)" if error.errno == 13 else ""
                self.fault = self.fault or "%s: %s%s" % (path, reason, mend)
                continue
            if len(data) > _MOST_BYTES:
                # half a file would look like a broken one
                self.fault = self.fault or "%s: larger than 512 KiB, so it is left out" % path
                continue
            total += len(data)
            if total > _MOST_TOTAL_BYTES:
                self.fault = "the configuration is larger than 2 MiB; the rest is left out"
                break
            if mark is not None:
                self.newest = max(self.newest or 0.0, mark[0] / 1e9)
            includes = patterns(data)
            if path == main or includes or _TELLING.search(data):
                self._found[path] = {
                    "text": data.decode("latin-1"),
                    "target": os.path.realpath(path),
                    "mtime": round(mark[0] / 1e9, 3) if mark is not None else None,
                }
            for pattern in includes:
                absolute = os.path.join(base, pattern)
                if glob.has_magic(absolute):
                    self._globs[absolute] = _expand(absolute)
                    waiting.extend(self._globs[absolute])
                else:
                    waiting.append(absolute)


def patterns(data: bytes) -> List[str]:
    """What the `include` directives of a file name, in order; comments and quotes understood."""
    found: List[str] = []
    words: List[str] = []
    for word, quoted in _tokens(data):
        if not quoted and word in (";", "{", "}"):
            if len(words) == 2 and words[0] == "include" and word == ";":
                found.append(words[1])
            words = []
        else:
            words.append(word)
    return found


def _tokens(data: bytes) -> List[Tuple[str, bool]]:
    text = os.fsdecode(data)
    tokens: List[Tuple[str, bool]] = []
    position, size = 0, len(text)
    while position < size:
        letter = text[position]
        if letter.isspace():
            position += 1
        elif letter == "#":
            end = text.find("\n", position)
            position = size if end < 0 else end
        elif letter in ";{}":
            tokens.append((letter, False))
            position += 1
        elif letter in "'\"":
            end = position + 1
            while end < size and text[end] != letter:
                end += 2 if text[end] == "\\" else 1
            tokens.append((text[position + 1 : end], True))
            position = end + 1
        else:
            end = position
            while end < size and not text[end].isspace() and text[end] not in ";{}":
                if text[end] == "$" and text[end + 1 : end + 2] == "{":
                    end += 1
                end += 1
            tokens.append((text[position:end], False))
            position = max(end, position + 1)
    return tokens


def _mark(path: str) -> Tuple[int, int, int] | None:
    """When the file changed, through links: a new target counts, and so does a renamed one."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (max(status.st_mtime_ns, status.st_ctime_ns), status.st_size, status.st_ino)


def _expand(pattern: str) -> List[str]:
    return sorted(glob.glob(pattern))

"""The hosts that a person's ssh configuration names, read without asking ssh or anybody else."""

from __future__ import annotations

import glob
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_HOSTS: Final = 500
MOST_FILES: Final = 100
DEEPEST: Final = 16


def ssh_hosts(config: Path | None = None) -> list[str]:
    """The aliases on Host lines, in their order, without patterns; Include is followed.

    `config` stands in for ~/.ssh/config. At most 500; empty where there is none to read.
    """
    try:
        # As ssh itself has it, whatever HOME says.
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return []
    names: dict[str, None] = {}
    for words in _lines(config or home / ".ssh" / "config", home, 0, {}):
        if words[0].lower() == "host":
            names |= dict.fromkeys(word for word in words[1:] if _alias(word))
    return list(names)[:MOST_HOSTS]


def _alias(word: str) -> bool:
    return word.isprintable() and not re.search(r"[*?!\s]", word) and not word.startswith("-")


def _lines(path: Path, home: Path, depth: int, read: dict[Path, None]) -> Iterator[list[str]]:
    """Every line as words, those of included files where they stand."""
    if depth > DEEPEST or path in read or len(read) >= MOST_FILES:
        return
    read[path] = None
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        words = _words(line)
        if not words:
            continue
        if words[0].lower() != "include":
            yield words
            continue
        for pattern in words[1:]:
            # As ssh has it: what is not absolute lies in ~/.ssh.
            inside = home / pattern[2:] if pattern.startswith("~/") else home / ".ssh" / pattern
            for found in sorted(glob.glob(str(inside)))[:MOST_FILES]:  # noqa: PTH207 - may be absolute
                yield from _lines(Path(found), home, depth + 1, read)


def _words(line: str) -> list[str]:
    """`Key value…` or `Key=value…`, with quotes and a comment at the end."""
    found = re.match(r"\s*([A-Za-z]+)\s*=?\s*(.*)", line, re.DOTALL)
    if found is None:
        return []
    key, value = found.groups()
    try:
        return [key, *shlex.split(value, comments=True)]
    except ValueError:
        return [key, *value.split()]

"""What is written down of members taken out: the user's own record, changed under the lock."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from llamatop.probe import drains

from .running import say

_KEEP_SECONDS = 14 * 86400.0
_MOST_LINES = 500


def note(about: dict[str, Any], event: str, members: list[list[str]] | None = None) -> None:
    """Add a line to this user's record; where that cannot be it is said, and nothing stops.

    `about` has the plan's id, who and what, and which members it means to put back.
    """
    line = dict(about, event=event, at=time.time())
    if members is not None:
        line["members"] = members
    uid = os.geteuid()
    lines = [old for old in drains.read(uid) if line["at"] - old["at"] < _KEEP_SECONDS]
    if event == "renewed":
        lines = [old for old in lines if (old["event"], old["plan"]) != (event, about["plan"])]
    try:
        _write(drains.path(uid), [*lines[-_MOST_LINES:], line])
    except OSError as error:
        say("unrecorded", error="%s: %s" % (drains.path(uid), error.strerror))


def _write(path: str, lines: list[dict[str, Any]]) -> None:
    """The whole record anew: a reader sees the old one or the new one."""
    kept = [{key: line[key] for key in line if key not in drains.MARKS} for line in lines]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in kept)
    directory, name = os.path.split(path)
    new = os.path.join(directory, ".%s.new" % name)
    if os.path.lexists(new):
        # Of one that was killed here: the lock is ours now.
        os.unlink(new)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(file, "wb") as out:
            os.fchmod(file, 0o644)
            # One write may take only a part where the disk is nearly full.
            out.write(text.encode())
            out.flush()
            os.fsync(file)
        # Never onto another user's file: in a sticky directory the kernel refuses that.
        os.rename(new, path)
    except OSError:
        os.unlink(new)
        raise

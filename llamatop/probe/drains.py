"""Who took members out on this node, and which plan left some so: read from the users' own records.

A record is a file of JSON lines in a directory that everybody may write to, one for each user:
only its owner can change it, and what another user put under that name is passed over.
"""

from __future__ import annotations

import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

DIRECTORY = "/var/tmp"  # noqa: S108 - it outlives a reboot
# A plan that has not said for so long that it goes on is over.
LEASE_SECONDS = 30.0
_PREFIX, _SUFFIX = "llamatop-drains-", ".jsonl"
_MOST_BYTES = 256 * 1024
_MOST_TEXT = 200
ORDER = "order"
_EVENTS = ("out", "in", "renewed", "ended", "reshape")


def directory() -> str:
    """Where the records are; LLAMATOP_DRAINS_DIRECTORY moves it."""
    return os.environ.get("LLAMATOP_DRAINS_DIRECTORY") or DIRECTORY


def path(uid: int) -> str:
    """The record of one user."""
    return os.path.join(directory(), "%s%d%s" % (_PREFIX, uid, _SUFFIX))


def read(uid: int) -> List[Dict[str, Any]]:
    """The lines of a user's record; none where it is missing, or not that user's own file.

    ORDER of each is what to sort by, where records are put together.
    """
    try:
        descriptor = os.open(path(uid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
            return []
        data = os.read(descriptor, _MOST_BYTES)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    lines: List[Dict[str, Any]] = []
    for text in data.split(b"\n"):
        try:
            line = json.loads(text.decode())
        except (ValueError, RecursionError):
            continue
        if _valid(line):
            # A clock that was set back turns no order round.
            line[ORDER] = max(line["at"], lines[-1][ORDER] if lines else 0.0)
            lines.append(line)
    return lines


def _valid(line: Any) -> bool:
    if not isinstance(line, dict) or line.get("event") not in _EVENTS:
        return False
    if not isinstance(line.get("at"), float) or not isinstance(line.get("plan"), str):
        return False
    members = line.get("members", [])
    return isinstance(members, list) and all(
        isinstance(member, list) and len(member) == 2 and all(isinstance(w, str) for w in member)
        for member in members
    )


def left(lines: List[Dict[str, Any]], now: float) -> List[Dict[str, Any]]:
    """The members that were taken out by a plan which is over and did not mean to leave them so.

    Each as {upstream, address, plan, who, what, minutes}; `now` and the lines' times are this
    node's clock. A plan that meant to put a member back leaves it where it ended without doing so.
    """
    out: Dict[Tuple[str, str], Dict[str, Any]] = {}
    heard: Dict[str, float] = {}
    ended = set()
    for line in sorted(lines, key=lambda line: line.get(ORDER, line["at"])):
        plan = line["plan"]
        heard[plan] = line["at"]
        if line["event"] == "ended":
            ended.add(plan)
        for upstream, address in line.get("members", []):
            if line["event"] == "out":
                out[upstream, address] = line
            elif line["event"] == "in":
                out.pop((upstream, address), None)
    found = []
    for (upstream, address), line in out.items():
        plan = line["plan"]
        over = plan in ended or not 0 <= now - heard[plan] < LEASE_SECONDS
        if over and (plan not in ended or [upstream, address] in (line.get("returns") or [])):
            found.append(
                {
                    "upstream": upstream,
                    "address": address,
                    "plan": plan,
                    "who": str(line.get("who"))[:_MOST_TEXT],
                    "what": str(line.get("what"))[:_MOST_TEXT],
                    "minutes": max(int((now - line["at"]) // 60), 0),
                }
            )
    return found


def users() -> Dict[int, Any]:
    """Whose records there are, each with what changes when it is written anew."""
    marks = {}
    try:
        with os.scandir(directory()) as entries:
            for entry in entries:
                uid = entry.name[len(_PREFIX) : -len(_SUFFIX)]
                if entry.name == _PREFIX + uid + _SUFFIX and uid.isdigit():
                    status = entry.stat(follow_symlinks=False)
                    marks[int(uid)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        pass
    return marks


class Records:
    """The records of all users, read again only when one of them changed."""

    def __init__(self) -> None:
        self._marks: Dict[int, Any] = {}
        self._lines: Dict[int, List[Dict[str, Any]]] = {}

    def left(self, now: float) -> List[Dict[str, Any]]:
        """The same as `left` over every user's record."""
        marks = users()
        if marks != self._marks:
            self._lines = {uid: read(uid) for uid in marks}
            self._marks = marks
        if not self._lines:
            return []
        return left([line for lines in self._lines.values() for line in lines], now)

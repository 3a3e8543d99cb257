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
# Within which it is counted how often auto-drain took a member out.
AGAIN_SECONDS = 3600.0
ORDER, OWNER = "order", "owner"
# What is not in the file.
MARKS = (ORDER, OWNER)
_EVENTS = ("out", "in", "renewed", "ended", "reshape")


def directory() -> str:
    """Where the records are; LLAMATOP_DRAINS_DIRECTORY moves it."""
    return os.environ.get("LLAMATOP_DRAINS_DIRECTORY") or DIRECTORY


def path(uid: int) -> str:
    """The record of one user."""
    return os.path.join(directory(), "%s%d%s" % (_PREFIX, uid, _SUFFIX))


def read(uid: int) -> List[Dict[str, Any]]:
    """The lines of a user's record; none where it is missing, or not that user's own file.

    ORDER of each is what to sort by, where records are put together; OWNER is the user.
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
            line[OWNER] = uid
            lines.append(line)
    return lines


def _valid(line: Any) -> bool:
    if not isinstance(line, dict) or line.get("event") not in _EVENTS:
        return False
    at = line.get("at")
    # NaN is in no range
    if not isinstance(at, float) or not 0 <= at < float("inf"):
        return False
    if not isinstance(line.get("plan"), str):
        return False
    return _are_members(line.get("members", [])) and _are_members(line.get("returns") or [])


def _are_members(given: Any) -> bool:
    return isinstance(given, list) and all(
        isinstance(member, list) and len(member) == 2 and all(isinstance(w, str) for w in member)
        for member in given
    )


def left(lines: List[Dict[str, Any]], now: float) -> List[Dict[str, Any]]:
    """The members that were taken out by a plan which is over and did not mean to leave them so.

    Each as {upstream, address, plan, who, what, minutes}; `now` and the lines' times are this
    node's clock. A plan that meant to put a member back leaves it where it ended without doing so.
    Those of auto-drain are to be put back by it however it ended: they have `auto`, `own` where
    the record is root's or this user's, and `times`, how often that was within an hour. They never
    take the place of what another user took out.
    """
    out: Dict[Tuple[str, str], Dict[str, Any]] = {}
    times: Dict[Tuple[str, str], int] = {}
    heard: Dict[str, float] = {}
    ended = set()
    mine = os.geteuid()
    for line in sorted(lines, key=lambda line: line.get(ORDER, line["at"])):
        plan = line["plan"]
        heard[plan] = line["at"]
        if line["event"] == "ended":
            ended.add(plan)
        auto = line.get("auto") is True
        for upstream, address in line.get("members", []):
            member = upstream, address
            if line["event"] == "out":
                before = out.get(member)
                if auto and now - line["at"] < AGAIN_SECONDS:
                    times[member] = times.get(member, 0) + 1
                if not (auto and before is not None and _anothers(before, line)):
                    out[member] = line
            elif line["event"] == "in":
                out.pop(member, None)
    found = []
    for (upstream, address), line in out.items():
        plan = line["plan"]
        auto = line.get("auto") is True
        over = plan in ended or not 0 <= now - heard[plan] < LEASE_SECONDS
        returns = auto or plan not in ended or [upstream, address] in (line.get("returns") or [])
        if over and returns:
            one = {
                "upstream": upstream,
                "address": address,
                "plan": plan,
                "who": str(line.get("who"))[:_MOST_TEXT],
                "what": str(line.get("what"))[:_MOST_TEXT],
                "minutes": max(int((now - line["at"]) // 60), 0),
            }
            if auto:
                one["auto"] = True
                one["own"] = line.get(OWNER, mine) in (0, mine)
                one["times"] = times.get((upstream, address), 1)
            found.append(one)
    return found


def _anothers(before: Dict[str, Any], line: Dict[str, Any]) -> bool:
    """Whether a line is of a plan that another user asked for."""
    return before.get("auto") is not True and before.get(OWNER) != line.get(OWNER)


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

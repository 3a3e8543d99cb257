"""A simulated machine's journal: the lines of each unit, kept and followed."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct, field

KEPT = 2000


class Entry(Struct, frozen=True):
    """One entry: Unix seconds, the process that wrote it, and its text."""

    at: float
    unit: str
    identifier: str
    pid: int
    text: str
    priority: int = 6


class Journal(Struct):
    """All entries of one machine, oldest first; `followers` hear each new one."""

    hostname: str
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    followers: list[Callable[[Entry], None]] = field(default_factory=list)

    def write(self, unit: str, identifier: str, pid: int, text: str, priority: int = 6) -> None:
        """Append an entry now."""
        entry = Entry(time.time(), unit, identifier, pid, text, priority)
        self.entries.append(entry)
        for follower in list(self.followers):
            follower(entry)

    def format(self, entry: Entry, output: str) -> str:
        """One entry as `journalctl -o OUTPUT` prints it, without the newline."""
        if output == "cat":
            return entry.text
        if output == "json":
            return json.dumps(
                {
                    "__REALTIME_TIMESTAMP": str(int(entry.at * 1e6)),
                    "_HOSTNAME": self.hostname,
                    "_SYSTEMD_UNIT": entry.unit,
                    "SYSLOG_IDENTIFIER": entry.identifier,
                    "_PID": str(entry.pid),
                    "PRIORITY": str(entry.priority),
                    "MESSAGE": entry.text,
                }
            )
        moment = time.localtime(entry.at)
        if output in ("short-iso", "short-iso-precise"):
            fraction = f".{int(entry.at % 1 * 1e6):06d}" if output.endswith("precise") else ""
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", moment) + fraction
            stamp += time.strftime("%z", moment)
        elif output == "short-unix":
            stamp = f"{entry.at:.6f}"
        else:
            stamp = time.strftime("%b %d %H:%M:%S", moment)
        return f"{stamp} {self.hostname} {entry.identifier}[{entry.pid}]: {entry.text}"

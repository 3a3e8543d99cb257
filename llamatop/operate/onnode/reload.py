"""nginx's reload, and whether it took: new worker processes serve and no old one accepts."""

from __future__ import annotations

import os
import time
from typing import Any

from .running import Failed, must, say

PROC = os.environ.get("HOST_PROC", "/proc")


def nginx_processes() -> dict[int, tuple[int, str, str]]:
    """Each nginx process as {pid: (parent, start time, title)}."""
    found = {}
    for name in os.listdir(PROC):
        if not name.isdigit():
            continue
        try:
            with open("%s/%s/cmdline" % (PROC, name), "rb") as file:
                title = file.read(256).replace(b"\0", b" ").decode("ascii", "replace")
            if not title.startswith("nginx: "):
                continue
            with open("%s/%s/stat" % (PROC, name)) as file:
                fields = file.read().rpartition(")")[2].split()
            found[int(name)] = (int(fields[1]), fields[19], title)
        except (OSError, IndexError, ValueError):
            continue
    return found


def master_pid(request: dict[str, Any]) -> int | None:
    """The running nginx's master process; raises Failed where there is none or several.

    None where that cannot be seen and the operator has a way of his own to reload it.
    """
    if request.get("own_reload"):
        masters = _masters()
        return masters[0] if len(masters) == 1 else None
    if request.get("unit"):
        argv = ["systemctl", "show", "-p", "MainPID", "--value", "--", request["unit"]]
        text = must("reload", argv).decode("ascii", "replace").strip()
        if not text.isdigit() or int(text) == 0:
            raise Failed("reload", "%s is not running" % request["unit"])
        return int(text)
    if request.get("pid_file"):
        try:
            with open(request["pid_file"]) as file:
                return int(file.read())
        except (OSError, ValueError) as error:
            raise Failed("reload", "nginx is not running: %s" % error) from error
    masters = _masters()
    if len(masters) != 1:
        raise Failed("reload", "%d nginx run here, one is needed" % len(masters))
    return masters[0]


def _masters() -> list[int]:
    return [pid for pid, what in nginx_processes().items() if " master process" in what[2]]


def serving(master: int) -> set[tuple[int, str]]:
    """The workers of `master` that accept requests, as {(pid, start time)}."""
    return {
        (pid, what[1])
        for pid, what in nginx_processes().items()
        if what[0] == master and "worker process" in what[2] and "shutting down" not in what[2]
    }


def reload_and_confirm(request: dict[str, Any]) -> None:
    """Reload, then wait until new workers serve and every old one has stopped accepting."""
    master = master_pid(request)
    old = serving(master) if master is not None else set()
    must("reload", request["reload"])
    say("reloaded")
    if master is None:
        say("unconfirmed")
        return
    began = time.monotonic()
    pause = 0.002
    while True:
        now = serving(master)
        if now and not now & old:
            break
        if time.monotonic() - began > request["confirm_seconds"]:
            raise Failed(
                "confirm",
                "nginx took the reload, but no new workers run after %g s: its error log says why"
                % request["confirm_seconds"],
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    say("confirmed", workers=sorted(pid for pid, _ in now))

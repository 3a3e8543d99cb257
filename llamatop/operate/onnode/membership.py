"""The membership transaction, run on the balancer by `python3 -c` with its source on stdin.

The request is one JSON line on stdin, the answer JSON lines on stdout, one for each thing done,
the last with "event" "done" or "failed". It runs in a session of its own and outlives ssh: a cut
connection leaves the old files or the new ones. Each change is a fixed command, so that `sudo -n`
can allow exactly these. Same as, for each file:

    ln TARGET .NAME.llamatop-old; cp -a TARGET .NAME.llamatop-new
    dd of=.NAME.llamatop-new conv=fsync <TEXT; mv .NAME.llamatop-new TARGET
    nginx -t && systemctl reload nginx || mv .NAME.llamatop-old TARGET
    rm .NAME.llamatop-old

Killed half-way it leaves that old file behind, and the next transaction repairs first. What a
plan takes out is written down before (see `drains`), so that nobody finds it without a reason.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from . import drains, reshapes
from .files import Files, check, commands, leftover
from .lock import Lock
from .log import log
from .reload import reload_and_confirm
from .running import Failed, must, run, say

__all__ = ["commands", "main", "transact"]


def transact(request: dict[str, Any], lock: int) -> None:
    """All files, one test, one reload; raises Failed with everything as it was before."""
    files = Files(request["sudo"], lock)
    files.repair([file["target"] for file in request["files"]], request["test"])
    todo = check(request)
    moved = request.get("drains") or {}
    if moved.get("out"):
        drains.note(moved["about"], "out", moved["out"])
        if moved.get("kept"):
            # They were out before: only by whose word is new.
            return
    try:
        for file in todo:
            files.write(file)
        must("test", request["test"])
        say("tested")
        reload_and_confirm(request)
    except Failed as failure:
        lost = files.restore()
        if lost:
            text = "%s; NOT put back: %s (the old text is beside it)" % (failure, ", ".join(lost))
            raise Failed(failure.step, text) from failure
        if moved.get("out"):
            drains.note(moved["about"], "in", moved["out"])
        if files.written:
            _restored(request, failure)
        raise
    files.tidy()
    if moved.get("in"):
        drains.note(moved["about"], "in", moved["in"])


def _restored(request: dict[str, Any], failure: Failed) -> None:
    """What there is to do and say once the old files are back."""
    say("restored")
    if failure.step == "test" and run(request["test"])[0] != 0:
        text = "the configuration was invalid before the change: %s" % failure
        raise Failed("test", text) from failure
    if failure.step == "confirm":
        run(request["reload"])


def do(request: dict[str, Any], lock: int) -> None:
    """What is asked for: a transaction, a line for the record, or what killed ones left."""
    if request["do"] == "note":
        drains.note(request["about"], request["event"])
    elif request["do"] == "reshape":
        reshapes.begin(request["about"], request["reshapings"])
    elif request["do"] == "reshapes":
        say("found", plans=reshapes.found(time.time()))
    elif request["do"] == "look":
        found = {target: leftover(target) for target in request["targets"]}
        say("found", left={target: what for target, what in found.items() if what})
    else:
        transact(request, lock)


def tell(request: dict[str, Any], how: str) -> None:
    """The journal of this node: who changed which members of what, and how it ended."""
    if request["do"] != "transact":
        return
    moved = request.get("drains") or {}
    parts = [
        "%s %s" % (address, what) for what in ("out", "in") for _, address in moved.get(what) or ()
    ]
    files = ", ".join(file["target"] for file in request["files"])
    plan = (moved.get("about") or {}).get("plan") or "unknown"
    about = "%s in %s" % (", ".join(parts) or "no member moved", files or "no file")
    log("%s, plan %s: %s: %s" % (request["holder"], plan, about, how))


def main() -> int:
    """Read the request and do it in a session of its own; the status is 0 only when done."""
    request = json.loads(sys.stdin.buffer.readline().decode())
    child = os.fork()
    if child:
        return 0 if os.waitpid(child, 0)[1] == 0 else 1
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lock = Lock(os.environ.get("LLAMATOP_LOCK_DIRECTORY"), request["holder"])
    status = 1
    try:
        lock.take(request["lock_seconds"])
        say("locked")
        do(request, lock.file)
        tell(request, "done")
        say("done")
        status = 0
    except Failed as failure:
        tell(request, "failed: %s" % failure)
        say("failed", step=failure.step, error=str(failure))
    except Exception as error:  # noqa: BLE001 - the other side must hear of it
        text = "%s: %s" % (type(error).__name__, error)
        tell(request, "failed: " + text)
        say("failed", step="program", error=text)
    finally:
        lock.release()
        os._exit(status)

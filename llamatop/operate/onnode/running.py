"""Commands on the node, and what is said about them on stdout: one JSON line for each thing."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

COMMAND_SECONDS = 60
# sbin is not on an ordinary user's path, but nginx is there.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# Holds its own copy of the lock's descriptor until the command has ended: sudo closes its copy.
_HOLDING = '"$@"; exit $?'


class Failed(Exception):
    """The transaction stops here; `step` says where, the text why."""

    def __init__(self, step: str, text: str) -> None:
        Exception.__init__(self, text)
        self.step = step


def say(event: str, **facts: Any) -> None:
    """One JSON line on stdout; nobody listening is no reason to stop."""
    facts["event"] = event
    try:
        os.write(1, (json.dumps(facts) + "\n").encode())
    except OSError:
        pass


def run(argv: list[str], data: bytes = b"", lock: int = -1) -> tuple[int, bytes, str]:
    """Status, stdout and stderr's text of a command that cannot ask anything of anybody.

    With `lock` the lock stays taken until the command has ended, even if we are killed meanwhile.
    """
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":" + SBIN
    try:
        done = subprocess.run(
            argv if lock < 0 else ["sh", "-c", _HOLDING, "sh", *argv],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            env=dict(os.environ, LC_ALL="C", PATH=path),
            pass_fds=() if lock < 0 else (lock,),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, b"", "it did not end in %d s" % COMMAND_SECONDS
    except OSError as error:
        return 127, b"", str(error)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip()


def must(step: str, argv: list[str], data: bytes = b"", lock: int = -1) -> bytes:
    """The command's stdout; raises Failed where it does not end with 0."""
    status, out, error = run(argv, data, lock)
    if status != 0:
        raise Failed(step, "`%s` ended with status %d: %s" % (" ".join(argv), status, error))
    return out

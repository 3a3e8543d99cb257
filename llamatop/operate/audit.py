"""The audit log: who changed what, from where, and how it ended, one JSON object a line."""

from __future__ import annotations

import errno
import getpass
import json
import os
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path

from llamatop.model.plan import Plan, StepResult

from .record import plan_record, result_record


def default_path() -> Path:
    """`audit.jsonl` in the user's state directory; same as ~/.local/state/llamatop/audit.jsonl."""
    from platformdirs import user_state_path

    return user_state_path("llamatop") / "audit.jsonl"


def who() -> str:
    """The person as `user@host`, with the user behind sudo where there is one."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    behind = os.environ.get("SUDO_USER")
    return f"{behind or user}@{socket.gethostname()}"


class Audit:
    """Appends to one file that only its owner can read (0600); it never holds a secret."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def begin(self, cluster: str, plan: Plan) -> str:
        """Write the plan; returns the id that its results carry. Raises OSError."""
        identity = uuid.uuid4().hex[:12]
        connection = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
        self._write(
            identity,
            "plan",
            cluster=cluster,
            who=who(),
            came_from=connection or None,
            plan=plan_record(plan),
        )
        return identity

    def step(self, identity: str, result: StepResult) -> None:
        """Write how a step ended. Raises OSError."""
        self._write(identity, "step", **result_record(result))

    def end(self, identity: str, ok: bool, error: str | None) -> None:
        """Write how the plan ended. Raises OSError."""
        self._write(identity, "end", ok=ok, error=error)

    def _write(self, identity: str, event: str, **facts: object) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"at": at, "id": identity, "event": event, **facts}) + "\n"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                # The disk was full in the middle of a line: that one is lost, not this one too.
                line = "\n" + line
            data = line.encode()
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)

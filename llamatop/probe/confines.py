"""What the kernel holds a running worker to: processors, memory, locked pages, its model's disk."""

from __future__ import annotations

import os
import re

from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

_NO_LIMIT = 2**63 - 1
_MOST_LINKS = 20
_ESCAPED = re.compile(r"\\([0-7]{3})")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "afs", "9p", "beegfs")


def read(pid: int, model: str | None) -> Dict[str, Any]:
    """Confines fields of a running process; `model` is the path that it was started with."""
    return {
        "cpus": procfs.status_field(pid, b"Cpus_allowed_list"),
        "memory_nodes": procfs.status_field(pid, b"Mems_allowed_list"),
        "memlock_bytes": _memlock(pid),
        "model_filesystem": _filesystem(pid, model) if model and model[0] == "/" else None,
    }


def _memlock(pid: int) -> int | None:
    data = procfs.try_read("%d/limits" % pid) or b""
    _, found, rest = data.partition(b"Max locked memory")
    words = rest.split()
    if not found or not words:
        return None
    if words[0] == b"unlimited":
        return _NO_LIMIT
    return int(words[0]) if words[0].isdigit() else None


def _filesystem(pid: int, path: str) -> str | None:
    """The type of the file system that `path` leads to.

    Links are followed, but never on one of the network, where asking may take for ever.
    """
    mounts = _mounts(pid)
    left = path
    for _ in range(_MOST_LINKS):
        kind = _of(mounts, left)
        if kind is None or kind in _REMOTE or kind.startswith("fuse."):
            return kind
        target = _first_link(mounts, left)
        if target is None:
            return kind
        left = target
    return None


def _first_link(mounts: Dict[str, str], path: str) -> str | None:
    """The path with its first symbolic link put in; None where there is none."""
    parts = path.split("/")
    for end in range(2, len(parts) + 1):
        beginning = "/".join(parts[:end])
        if _of(mounts, beginning) in _REMOTE:
            return path
        try:
            target = os.readlink(beginning)
        except OSError:
            continue
        place = os.path.join("/".join(parts[: end - 1]) or "/", target)
        return os.path.normpath("/".join([place, *parts[end:]]))
    return None


def _mounts(pid: int) -> Dict[str, str]:
    """File system types by mount point, as the process sees them; the last of a place is on top."""
    data = procfs.text(procfs.try_read("%d/mountinfo" % pid) or b"")
    found: Dict[str, str] = {}
    for line in data.splitlines():
        before, dash, after = line.partition(" - ")
        words = before.split()
        if dash and len(words) > 4 and after:
            place = _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), words[4])
            found[place] = after.split()[0]
    return found


def _of(mounts: Dict[str, str], path: str) -> str | None:
    while True:
        if (path or "/") in mounts:
            return mounts[path or "/"]
        if not path:
            return None
        path = path.rpartition("/")[0]

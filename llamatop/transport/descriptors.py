"""What is said when this process may open no further file or connection."""

from __future__ import annotations

import errno
import resource

from llamatop.errors import Unreachable


def exhausted(node: str, error: OSError) -> Unreachable | None:
    """The fault of an attempt that failed for want of a file descriptor, None for any other."""
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return None
    if error.errno == errno.ENFILE:
        return Unreachable(node, "this machine has too many files open", "end what holds them")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Unreachable(
        node,
        f"llamatop may open only {limit} files and connections here, and has them all open",
        f"start it again with more: ulimit -n {max(4096, 4 * limit)}",
    )

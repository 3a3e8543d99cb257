"""nginx's files as pure text: which upstream has which servers, and the edit of one `down`."""

from __future__ import annotations

from llamatop.errors import NginxSyntaxError

from .edit import diff, edit, rewrite, written
from .routes import proxying
from .upstreams import dump, lines_of, members, members_of, shutdown_timeout

__all__ = [
    "NginxSyntaxError",
    "diff",
    "dump",
    "edit",
    "lines_of",
    "members",
    "members_of",
    "proxying",
    "rewrite",
    "shutdown_timeout",
    "written",
]

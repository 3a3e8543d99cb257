"""nginx's files as pure text: which upstream has which servers, and the edits of their lines."""

from __future__ import annotations

from llamatop.errors import NginxSyntaxError

from .edit import diff, edit, rewrite, written
from .lines import add, remove
from .routes import proxying
from .upstreams import dump, lines_of, members, members_of, shutdown_timeout

__all__ = [
    "NginxSyntaxError",
    "add",
    "diff",
    "dump",
    "edit",
    "lines_of",
    "members",
    "members_of",
    "proxying",
    "remove",
    "rewrite",
    "shutdown_timeout",
    "written",
]

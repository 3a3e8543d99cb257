"""What sudo lets a user run without a password, read from one `sudo -n -ll`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from llamatop.model.plan import Command

_STANDARD_PLACES = (
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
)  # fmt: skip
_CONTINUED = " " * 8
_DIGEST = re.compile(r"(sha\d+:\S+,?\s+)+")


class _Entry(Struct, frozen=True):
    """One command of the listing as sudo's own pattern, in the order in which sudo reads them."""

    pattern: str
    allowed: bool
    without_password: bool


class Rights(Struct, frozen=True):
    """The entries that let somebody act as root; the last that matches a command decides."""

    entries: tuple[_Entry, ...]

    @classmethod
    def parse(cls, listing: str) -> Rights | None:
        """The rights that `sudo -n -ll` printed in the C locale; None where it is no listing."""
        entries: list[_Entry] = []
        seen = False
        without_password = "!authenticate" in listing.partition("may run the following")[0]
        runas, open_, options = "root", False, ""
        for line in listing.splitlines():
            key, colon, value = line.strip().partition(":")
            if line.startswith("\t") and open_:
                entries.append(_entry(line.strip(), runas, options, without_password))
            elif line.startswith(_CONTINUED) and open_ and entries:
                last = entries.pop()
                entries.append(
                    _Entry(f"{last.pattern} {line.strip()}", last.allowed, last.without_password)
                )
            elif not line.startswith(" "):
                runas, options, open_ = "root", "", False
            elif colon and key == "RunAsUsers":
                runas = value
            elif colon and key == "Options":
                options = value
            elif colon and key == "Commands":
                seen = open_ = True
        return cls(tuple(entries)) if seen else None

    def allow(self, command: Command) -> bool:
        """Whether sudo runs the command, given without `sudo -n`, as root and asks nothing."""
        for entry in reversed(self.entries):
            if _matches(entry.pattern, command.argv):
                return entry.allowed and entry.without_password
        return False

    def missing(self, commands: Iterable[Command]) -> list[Command]:
        """The commands that sudo would refuse or ask a password for, each once, in order."""
        return [command for command in dict.fromkeys(commands) if not self.allow(command)]


def _entry(text: str, runas: str, options: str, without_password: bool) -> _Entry:
    users = [user.strip() for user in runas.split(",")]
    as_root = any(user in ("ALL", "root", "#0") for user in users) and "!root" not in users
    words = [option.strip() for option in options.split(",")]
    if "!authenticate" in words:
        without_password = True
    elif "authenticate" in words:
        without_password = False
    negated = text.startswith("!")
    pattern = _DIGEST.sub("", text.lstrip("!").strip(), count=1)
    return _Entry(pattern, as_root and not negated, without_password)


def _matches(pattern: str, argv: tuple[str, ...]) -> bool:
    """As sudo matches: the whole path, then all arguments as one text."""
    if pattern == "ALL":
        return True
    path, _, arguments = pattern.partition(" ")
    places = [argv[0]] if "/" in argv[0] else [f"{place}/{argv[0]}" for place in _STANDARD_PLACES]
    if path.endswith("/"):
        if not any(place.rpartition("/")[0] + "/" == path for place in places):
            return False
    elif not any(re.fullmatch(_expression(path, "[^/]"), place, re.DOTALL) for place in places):
        return False
    given = " ".join(argv[1:])
    if not arguments:
        return True
    if arguments == '""':
        return not given
    if arguments.startswith("^") and arguments.endswith("$"):
        try:
            return re.search(arguments, given) is not None
        except re.error:
            return False
    return re.fullmatch(_expression(arguments, "."), given, re.DOTALL) is not None


def _expression(pattern: str, any_sign: str) -> str:
    """sudo's shell pattern as a regular expression; a backslash takes a sign as it is."""
    out: list[str] = []
    place = 0
    while place < len(pattern):
        sign = pattern[place]
        closing = pattern.find("]", place + 2) if sign == "[" else -1
        if sign == "\\" and place + 1 < len(pattern):
            place += 1
            out.append(re.escape(pattern[place]))
        elif sign == "*":
            out.append(f"{any_sign}*")
        elif sign == "?":
            out.append(any_sign)
        elif closing > 0:
            inner = pattern[place + 1 : closing].replace("\\", "\\\\")
            out.append(f"[^{inner[1:]}]" if inner[:1] in "!^" else f"[{inner}]")
            place = closing
        else:
            out.append(re.escape(sign))
        place += 1
    return "".join(out)

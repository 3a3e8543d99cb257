"""What a tunnel's unit forwards, and whether anything would notice that its connection is dead."""

from __future__ import annotations

import glob
import os
import time

from . import procfs, tunnels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Tuple

_OPTION = "serveraliveinterval"
# What ssh_config of the system includes on Debian and its kin.
_INCLUDED = "/etc/ssh/ssh_config.d/*.conf"
# A home may lie on the network, and its user in a directory there: they are asked seldom.
_KEPT_SECONDS = 600.0
_MOST_KEPT = 256
_kept: Dict[Tuple[Any, ...], Tuple[float, bool]] = {}


def of_unit(words: List[str], environment: Dict[str, str], user: str | None) -> Dict[str, Any]:
    """UnitState fields of a tunnel from its ExecStart; {} where no ssh is found in it."""
    bases = [word.rpartition("/")[2] for word in words]
    place = next((n for n, base in enumerate(bases) if base in ("autossh", "ssh")), None)
    if place is None:
        return {}
    command = words[place:]
    _, forwards = tunnels.parse(command)
    kept = on_command_line(command, environment)
    if kept is None and not _known(command, user):
        kept = False
    return {"forwards": ["%s %s" % forward[:2] for forward in forwards], "keepalive": kept}


def on_command_line(words: List[str], environment: Dict[str, str]) -> bool | None:
    """Whether the words alone settle it: ServerAliveInterval, or autossh's own monitor port."""
    options = dict(_options(words))
    seconds = options.get(_OPTION)
    if seconds is not None:
        return seconds.strip("0smhdw") != ""
    if words[0].rpartition("/")[2] == "autossh":
        port = _value(words, "M") or environment.get("AUTOSSH_PORT") or "0"
        if port != "0":
            return True
    # Debian's ssh then takes 300 s.
    return None if options.get("batchmode", "no") == "no" else True


def _options(words: List[str]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        given = None
        if word == "-o" and place + 1 < len(words):
            given = words[place + 1]
        elif word.startswith("-o"):
            given = word[2:]
        if given:
            name, _, value = given.replace("=", " ", 1).strip().partition(" ")
            yield name.lower(), value.strip().lower()


def _value(words: List[str], letter: str) -> str | None:
    for place, word in enumerate(words):
        if word == "-" + letter:
            return words[place + 1] if place + 1 < len(words) else None
        if word.startswith("-" + letter):
            return word[2:]
    return None


def _known(words: List[str], user: str | None) -> bool:
    """`_configured`, as it was found some minutes ago."""
    asked = (user, *words)
    now = time.monotonic()
    known = _kept.get(asked)
    if known is None or now - known[0] > _KEPT_SECONDS:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        known = _kept[asked] = (now, _configured(words, user))
    return known[1]


def _configured(words: List[str], user: str | None) -> bool:
    """Whether ssh's files may set it: where one cannot be read, or includes others, they may."""
    named = _value(words, "F")
    if named is not None:
        files = [] if named == "none" else [named]
    else:
        home = os.path.expanduser("~" + (user or ""))
        if not os.path.isabs(home):
            return True
        files = [home + "/.ssh/config", "/etc/ssh/ssh_config", *glob.glob(_INCLUDED)]
    for file in files:
        try:
            text = procfs.text(procfs.read(file)).lower()
        except FileNotFoundError:
            continue
        except OSError:
            return True
        for line in text.split("\n"):
            said = line.replace("=", " ", 1).split()
            if said[:1] == [_OPTION] or (said[:1] == ["include"] and said[1:] != [_INCLUDED]):
                return True
    return False

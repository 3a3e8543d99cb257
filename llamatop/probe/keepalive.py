"""What a tunnel's unit forwards, and whether anything would notice that its connection is dead."""

from __future__ import annotations

import glob
import os
import threading
import time

from . import procfs, tunnels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Set, Tuple

_OPTION = "serveraliveinterval"
# What ssh_config of the system includes on Debian and its kin.
_INCLUDED = "/etc/ssh/ssh_config.d/*.conf"
# They change seldom, and an autofs that is asked often never unmounts.
_KEPT_SECONDS = 600.0
_MOST_KEPT = 256


def of_unit(words: List[str], environment: Dict[str, str]) -> Dict[str, Any]:
    """UnitState fields of a tunnel from its ExecStart alone; {} where no ssh is found in it."""
    command = ssh_of(words)
    if command is None:
        return {}
    _, forwards = tunnels.parse(command)
    return {
        "forwards": ["%s %s" % forward[:2] for forward in forwards],
        "keepalive": on_command_line(command, environment),
    }


def ssh_of(words: List[str]) -> List[str] | None:
    """The ssh or autossh command among the words."""
    bases = [word.rpartition("/")[2] for word in words]
    place = next((n for n, base in enumerate(bases) if base in ("autossh", "ssh")), None)
    return None if place is None else words[place:]


class Files:
    """What ssh's own files say, read on a thread of its own.

    A home may lie on the network, and its user in a directory there: neither delays a line.
    """

    def __init__(self) -> None:
        self._known: Dict[Tuple[str | None, ...], Tuple[float, bool]] = {}
        self._asked: Set[Tuple[str | None, ...]] = set()
        self._woken = threading.Event()
        self._thread: Any = None

    def keepalive(self, asked: Tuple[str | None, ...]) -> bool | None:
        """False where they certainly set none for the command, as they said some minutes ago.

        `asked` is the user and the command's words. None where they may, or are not read yet.
        """
        known = self._known.get(asked)
        old = known is None or time.monotonic() - known[0] > _KEPT_SECONDS
        if old and asked not in self._asked and len(self._asked) < _MOST_KEPT:
            self._asked.add(asked)
            self._woken.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ssh-files", daemon=True)
                self._thread.start()
        return None if known is None or known[1] else False

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            for asked in list(self._asked):
                self._look(asked)

    def _look(self, asked: Tuple[str | None, ...]) -> None:
        user, words = asked[0], [word for word in asked[1:] if word is not None]
        try:
            may = configured(words, user)
        except Exception:
            # what cannot be read may say anything
            may = True
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[asked] = (time.monotonic(), may)
        self._asked.discard(asked)


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


def configured(words: List[str], user: str | None) -> bool:
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

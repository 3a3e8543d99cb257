"""The forwards of running ssh and autossh processes, read from their command lines."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    from .processes import Process

# ssh's options that take a value, as in its getopt string
_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"


def sample(processes: List[Process]) -> Dict[str, Any]:
    """Tunnel fields, keyed by number; autossh's own line is left out where its ssh runs."""
    found: Dict[str, Any] = {}
    seen = set()
    ordered = sorted(processes, key=lambda process: (_is_autossh(process), process.pid))
    for process in ordered:
        destination, forwards = parse(process.words)
        for direction, listen, target in forwards:
            key = (direction, listen, target, destination)
            if destination is None or key in seen:
                continue
            seen.add(key)
            found[str(len(found))] = {
                "direction": direction,
                "listen": listen,
                "target": target,
                "destination": destination,
                "pid": process.pid,
                "unit": process.unit,
            }
    return found


def _is_autossh(process: Process) -> bool:
    return process.words[0].rpartition("/")[2] == "autossh"


def parse(words: List[str]) -> Tuple[str | None, List[Tuple[str, str, str]]]:
    """The destination and the forwards (direction, listen, target) of an ssh command line."""
    autossh = words[0].rpartition("/")[2] == "autossh" if words else False
    with_value = _WITH_VALUE + ("M" if autossh else "")
    forwards: List[Tuple[str, str, str]] = []
    destination = None
    position = 1
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            continue
        if not word.startswith("-") or word == "-":
            if destination is not None:
                break
            destination = word
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter not in with_value:
                continue
            value = word[place:]
            if not value and position < len(words):
                value = words[position]
                position += 1
            _forward(letter, value, forwards)
            break
    return destination, forwards


def _forward(letter: str, value: str, forwards: List[Tuple[str, str, str]]) -> None:
    if letter == "o":
        name, _, rest = value.replace("=", " ", 1).strip().partition(" ")
        letter = {"localforward": "L", "remoteforward": "R"}.get(name.lower(), "")
        parts = rest.split()
        if letter and len(parts) == 2:
            value = ":".join(parts)
        elif letter:
            value = rest.strip()
    if letter in ("L", "R"):
        split = _split(value)
        if split is not None:
            forwards.append((letter, *split))


def _split(value: str) -> Tuple[str, str] | None:
    """(listen, target) of [bind:]port:host:hostport, each as host:port; None for socket files."""
    parts: List[str] = []
    rest = value
    while rest:
        if rest.startswith("[") and "]" in rest:
            part, _, rest = rest[1:].partition("]")
            rest = rest[1:] if rest.startswith(":") else rest
            parts.append("[%s]" % part)
        else:
            part, _, rest = rest.partition(":")
            parts.append(part)
    if any("/" in part for part in parts) or len(parts) not in (3, 4):
        return None
    if not parts[-1].isdigit() or not parts[-3].isdigit():
        return None
    bind = parts[0] if len(parts) == 4 else "127.0.0.1"
    if bind == "localhost":
        bind = "127.0.0.1"
    return "%s:%s" % (bind or "*", parts[-3]), "%s:%s" % (parts[-2], parts[-1])

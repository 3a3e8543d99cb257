"""What a running engine was started with otherwise than its unit says now. Pure."""

from __future__ import annotations

import itertools

from . import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

# What a shell or systemd would have made something else of.
_OPEN = "$%`~*?"
_VARIABLES = ("CUDA_", "GGML_", "LLAMA_", "OLLAMA_")
# Those whose values may be told; a key is none of them.
_TELLING = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
_MOST = 8


def options(unit: List[str], process: launch.Found) -> List[str]:
    """The options of a llama-server that differ from those in its unit's command `unit`.

    [] where none does, or a shell or a script stands between, so that it cannot be told.
    """
    found = launch.find(unit)
    if found is None or found.engine != process.engine or found.engine != "llama-server":
        return []
    if launch.through_shell(unit):
        return []
    said, runs = _by_option(found.arguments), _by_option(process.arguments)
    names = [name for name in {**runs, **said} if runs.get(name) != said.get(name)]
    if any(letter in word for name in names for word in said.get(name, ()) for letter in _OPEN):
        return []
    told = dict.fromkeys(_told(name, runs.get(name), said.get(name)) for name in names)
    return list(told)[:_MOST]


def variables(unit: Dict[str, str], process: Dict[str, str]) -> List[str]:
    """The engine's variables that the unit sets and the process runs with otherwise."""
    names = [
        name
        for name, value in unit.items()
        if name.startswith(_VARIABLES) and process.get(name) != value
    ]
    return [
        "%s (runs with %s, now %s)" % (name, process.get(name, "none"), unit[name])
        if name in _TELLING
        else name
        for name in names
    ][:_MOST]


def _by_option(arguments: List[str]) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    name = ""
    left = iter(arguments)
    for word in left:
        if not word.startswith("-") or word[1:2].isdigit():
            found.setdefault(name, []).append(word)
            continue
        name, equals, value = word.partition("=")
        found[name] = [value] if equals else []
        # a key may begin with a dash, and is no option for it
        if launch.takes_value(name):
            if not equals:
                found[name] = list(itertools.islice(left, 1))
            name = ""
    return found


def _told(name: str, runs: List[str] | None, said: List[str] | None) -> str:
    """With values where these are of the figures that are told anyway.

    What does not look like an option may be a secret's part, and is not told.
    """
    if not launch.telling(name):
        if name and not launch.known(name):
            return "another option"
        return name or "its arguments"
    return "%s (runs with %s, now %s)" % (name, _words(runs), _words(said))


def _words(values: List[str] | None) -> str:
    return "none" if values is None else " ".join(values) or "set"

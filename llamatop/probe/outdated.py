"""What a running engine was started with otherwise than its unit says now. Pure."""

from __future__ import annotations

from . import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "busybox")
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
    if any(word.rpartition("/")[2] in _SHELLS for word in unit):
        return []
    said, runs = _by_option(found.arguments), _by_option(process.arguments)
    names = [name for name in {**runs, **said} if runs.get(name) != said.get(name)]
    if any(letter in word for name in names for word in said.get(name, ()) for letter in _OPEN):
        return []
    return [_told(name, runs.get(name), said.get(name)) for name in names][:_MOST]


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
    for word in arguments:
        if word.startswith("-") and not word[1:2].isdigit():
            name, equals, value = word.partition("=")
            found[name] = [value] if equals else []
        else:
            found.setdefault(name, []).append(word)
    return found


def _told(name: str, runs: List[str] | None, said: List[str] | None) -> str:
    """With values where these are of the figures that are told anyway."""
    if not launch.telling(name):
        return name or "its arguments"
    return "%s (runs with %s, now %s)" % (name, _words(runs), _words(said))


def _words(values: List[str] | None) -> str:
    return "none" if values is None else " ".join(values) or "set"

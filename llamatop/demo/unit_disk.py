"""Unit files that somebody writes or takes away on a simulated machine, taken up as by systemd."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from llamatop.probe import launch, unit_text

from .shape import LARGE, OTHER, SMALL, Model, WorkerShape
from .unit import SHOWN

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

_GONE = ("inactive", "failed")


def look(machine: Machine) -> None:
    """Know the units whose files came, and forget those whose files went and that do not run."""
    folder = machine.root / SHOWN.lstrip("/")
    there = {
        path.name
        for path in folder.iterdir()
        if path.name.endswith(".service") and not path.name.startswith(".")
    }
    for name in sorted(there - machine.units.keys()):
        text = _text(folder / name)
        shape = _shape(machine, name, text)
        if shape is not None:
            machine.take_up(shape, text)
    for name in sorted(machine.units.keys() - there):
        if machine.units[name].state in _GONE:
            machine.forget(name)


def _text(path: Path) -> str:
    """What a file says; nothing where it is no file or cannot be read."""
    try:
        return path.read_text("utf-8", "replace") if path.is_file() else ""
    except OSError:
        return ""


def _shape(machine: Machine, unit: str, text: str) -> WorkerShape | None:
    """What a file would run; None for what this demo cannot play."""
    found = launch.find(unit_text.exec_start([text], unit))
    if found is None or found.engine != "llama-server":
        return None
    environment = variables(text)
    told = launch.describe(found, environment)
    words = dict(zip_longest(found.arguments, found.arguments[1:], fillvalue=""))
    cards = [word for word in str(told.get("cuda_visible_devices")).split(",") if word.isdecimal()]
    model = _models(machine).get(words.get("--model", ""))
    port = told.get("port")
    fits = all(int(card) < len(machine.cards) for card in cards)
    if model is None or not isinstance(port, int) or not cards or not fits:
        return None
    return WorkerShape(
        unit,
        port,
        tuple(int(card) for card in cards),
        model,
        parallel=_number(words.get("--parallel"), 4),
        context_tokens=_number(words.get("--ctx-size"), 32768),
        key=environment.get("LLAMA_API_KEY"),
        metrics="--metrics" in words,
    )


def variables(text: str) -> dict[str, str]:
    """What Environment= of a unit sets."""
    lines = [
        line.partition("=")[2] for line in text.splitlines() if line.startswith("Environment=")
    ]
    return {k: v for line in lines for k, v in unit_text.assignments(line).items()}


def _models(machine: Machine) -> dict[str, Model]:
    known = [SMALL, LARGE, OTHER, *(worker.model for worker in machine.shape.workers)]
    return {model.path: model for model in known}


def _number(word: str | None, otherwise: int) -> int:
    return int(word) if word and word.isdecimal() else otherwise

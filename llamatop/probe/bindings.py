"""NVIDIA's bindings cut down to what the probe calls. Runs on this side, like `bundle`.

The whole of pynvml is 8,000 lines, of which a node would compile all to use a twentieth: most of
the probe's memory, of its time to the first figures and of the bytes sent.
"""

from __future__ import annotations

import ast
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Set

_CALLED = re.compile(r'"(nvml\w+)"|\.(nvml\w+|NVML\w+)')
_ALWAYS = re.compile(r"NVML_ERROR_|NVML_SUCCESS$")


def called(source: str) -> Set[str]:
    """The names of the bindings that a module's text mentions as `library.name` or "name"."""
    return {first or second for first, second in _CALLED.findall(source)}


def slim(source: str, roots: Set[str]) -> str:
    """The bindings' text with only `roots` and all they lead to; licence and imports stay.

    Raises KeyError for a function of `roots` that the bindings lack, as after an update of them.
    """
    lines = source.splitlines(keepends=True)
    statements = ast.parse(source).body
    definitions: Dict[str, list[ast.stmt]] = {}
    kept: Set[ast.stmt] = set()
    for statement in statements:
        names = _defined(statement)
        for name in names:
            definitions.setdefault(name, []).append(statement)
        if not names or any(_ALWAYS.match(name) for name in names):
            kept.add(statement)
    missing = sorted(name for name in roots if name not in definitions)
    if missing:
        raise KeyError(f"pynvml has no {', '.join(missing)}")
    waiting = [*kept, *(statement for name in roots for statement in definitions[name])]
    while waiting:
        statement = waiting.pop()
        kept.add(statement)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                for definition in definitions.get(node.id, ()):
                    if definition not in kept:
                        kept.add(definition)
                        waiting.append(definition)
    head = "".join(line for line in lines[: statements[0].lineno - 1] if line.startswith("#"))
    return head + "".join(_text(statement, lines) for statement in statements if statement in kept)


def _defined(statement: ast.stmt) -> Set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {
            node.id
            for target in statement.targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name)
        }
    return set()


def _text(statement: ast.stmt, lines: list[str]) -> str:
    first = statement.lineno
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and statement.decorator_list:
        first = statement.decorator_list[0].lineno
    return "".join(lines[first - 1 : statement.end_lineno])

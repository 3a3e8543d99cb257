"""NVIDIA's bindings cut down to what the probe calls. Runs on this side, like `bundle`.

The whole of pynvml is 8,000 lines, of which a node would compile all to use a twentieth: most of
the probe's memory, of its time to the first figures and of the bytes sent.
"""

from __future__ import annotations

import ast
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, Iterator, Set, Tuple

# Where so many lines in the first column in a row are no statement, it is not merely a long text.
_MOST_PIECES = 50
_CALLED = re.compile(r'"(nvml\w+)"|\.(nvml\w+|NVML\w+)')
_ALWAYS = re.compile(r"NVML_ERROR_|NVML_SUCCESS$")
_FIRST_COLUMN = re.compile(r"^(?=[^\s#)\]}])", re.MULTILINE)
_NAMED = re.compile(
    r"(?:(?:@.*|[ \t]*(?:#.*)?)\n)*(?:def|class) (\w+)"
    # one line that assigns one name, and comments
    r"|(\w+)[ \t]*=(?!=)[^=\n\\([{'\"]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*\Z"
)


def called(source: str) -> Set[str]:
    """The names of the bindings that a module's text mentions as `library.name` or "name"."""
    return {first or second for first, second in _CALLED.findall(source)}


def slim(source: str, roots: Set[str]) -> str:
    """The bindings' text with only `roots` and all they lead to; licence and imports stay.

    Raises KeyError for a function of `roots` that the bindings lack, as after an update of them.
    """
    head, *pieces = _FIRST_COLUMN.split(source)
    try:
        statements = list(_statements(pieces))
    except SyntaxError:
        statements = list(_parsed(source))
    definitions: Dict[str, list[int]] = {}
    kept: Dict[int, str] = {}
    waiting: list[int] = []
    for number, (names, _) in enumerate(statements):
        for name in names:
            definitions.setdefault(name, []).append(number)
        if not names or any(_ALWAYS.match(name) for name in names):
            waiting.append(number)
    missing = sorted(name for name in roots if name not in definitions)
    if missing:
        raise KeyError(f"pynvml has no {', '.join(missing)}")
    waiting += [number for name in roots for number in definitions[name]]
    while waiting:
        number = waiting.pop()
        if number in kept:
            continue
        text = statements[number][1]
        tree = ast.parse(text).body[0]
        kept[number] = "".join(text.splitlines(keepends=True)[: tree.end_lineno])
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                waiting += definitions.get(node.id, ())
    licence = "".join(line for line in head.splitlines(keepends=True) if line.startswith("#"))
    return licence + "".join(kept[number] for number in sorted(kept))


def _statements(pieces: Iterable[str]) -> Iterator[Tuple[Set[str], str]]:
    """Each statement with the names it defines: to parse all 8,000 lines takes 0.1 s."""
    text, waiting = "", 0
    for piece in pieces:
        text += piece
        if piece.startswith("@"):
            continue
        named = _NAMED.match(text)
        if named:
            yield {named[1] or named[2]}, text
        else:
            try:
                (statement,) = ast.parse(text).body
            except SyntaxError:
                waiting += 1
                if waiting > _MOST_PIECES:
                    raise
                continue  # it goes on in the first column, as a text may
            yield _defined(statement), text
        text, waiting = "", 0
    if text:
        ast.parse(text)


def _parsed(source: str) -> Iterator[Tuple[Set[str], str]]:
    """The same of any text that Python takes, however it is written."""
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body:
        first = statement.lineno
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and statement.decorator_list:
            first = statement.decorator_list[0].lineno
        yield _defined(statement), "".join(lines[first - 1 : statement.end_lineno])


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

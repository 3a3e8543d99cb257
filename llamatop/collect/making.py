"""Making the model's nouns quickly: thousands of them are made at every tick of a large cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

Kind = TypeVar("Kind")


def maker(kind: type[Kind]) -> Callable[..., Kind]:
    """Makes one of a dataclass with slots of its fields' values, all of them, in their order.

    A frozen dataclass's own constructor sets each field by a call, which takes four times as long
    as the plain assignments here: they are made to a twin of the same layout that is not frozen.
    To be called once for a kind: it compiles a function.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # it is a dataclass
    lines = [
        f"def make({', '.join(names)}):",
        "    _made = _new(_Twin)",
        *(f"    _made.{name} = {name}" for name in names),
        "    _made.__class__ = _kind",
        "    return _made",
    ]
    twin = type(f"Twin{kind.__name__}", (), {"__slots__": tuple(names)})
    scope: dict[str, object] = {"_new": object.__new__, "_Twin": twin, "_kind": kind}
    exec("\n".join(lines), scope)  # noqa: S102 - as dataclasses makes its own; no text from outside
    return scope["make"]  # type: ignore[return-value]  # what the lines above define

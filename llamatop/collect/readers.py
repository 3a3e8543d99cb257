"""Untyped values to the model's dataclasses: what is wrong is left out and complained of."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from operator import attrgetter

from llamatop.engines import glances, slots
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import (
    EngineLoad,
    GpuSample,
    LoadedModel,
    Slot,
    Tunnel,
    UnitState,
    WorkerSample,
)

# Where an object holds many of these, the key is this field.
KEY_FIELDS: dict[type, str] = {
    GpuSample: "uuid",
    UnitState: "name",
    WorkerSample: "unit",
    Slot: "id",
    LoadedModel: "name",
    EngineLoad: "engine",
    ModelFile: "path",
}

# Where one of these is a list, it holds the fields of these names in this order.
ROWS: dict[type, tuple[str, ...]] = {Slot: slots.FIELDS}

# No count, size or time of a cluster comes near it; sums and products of these stay finite.
_LARGEST = 2**63
_ROW = len(slots.FIELDS) + 1

Complaints = list[str]
Reader = Callable[[object, str, Complaints], object]


class _WrongError(Exception):
    """A value that cannot be read as its type; `args[0]` says what was expected."""


def decode(kind: type, value: object, complaints: Complaints, key: str | None = None) -> object:
    """`value` as the dataclass `kind`, None where it cannot be one; never raises.

    Unknown keys are ignored; a field of the wrong type gets its default and a line in
    `complaints`. `key` fills the field that names it (a GPU's uuid, a slot's id).
    """
    try:
        return _read_dataclass(kind, value, kind.__name__, complaints, key)
    except _WrongError as wrong:
        complaints.append(f"{kind.__name__}: {wrong.args[0]}")
        return None


def read_tunnels(value: object, complaints: Complaints) -> tuple[Tunnel, ...]:
    """A list or an object of tunnels; never raises, what is wrong is left out."""
    try:
        read = _reader(tuple[Tunnel, ...])(value or [], "tunnels", complaints)
    except _WrongError as wrong:
        complaints.append(f"tunnels: {wrong.args[0]}")
        read = ()
    return typing.cast("tuple[Tunnel, ...]", read)


def again(kind: type, before: object, read: object, value: object) -> object:
    """`value` as `kind`, where `before` was read as `read` without complaint; same as `decode`.

    Only what changed is read. None where it must be read whole: something is gone or wrong.
    """
    if not isinstance(value, dict) or not isinstance(before, dict):
        return None
    shape = _shape(kind)
    figures = list(shape.figures(read))
    complaints: Complaints = []
    fresh = 0
    for name, item in value.items():
        was = before.get(name, MISSING)
        if was is item:
            continue
        fresh += was is MISSING
        place = shape.places.get(name)
        if place is None or name == "glances":
            continue
        if item is None:
            return None
        if type(item) is shape.exact[place] and _is_plain(item):
            figures[place] = item
            continue
        nested = shape.nested[place]
        if name == "slots" or nested is not None:
            if was is MISSING:
                return None
            figures[place] = (
                _rows(item, was, figures[place])
                if nested is None
                else again(nested, was, figures[place], item)
            )
            if figures[place] is None:
                return None
            continue
        try:
            figures[place] = shape.readers[place](item, name, complaints)
        except _WrongError:
            return None
    if len(value) - fresh < len(before):
        return None
    if kind is WorkerSample and "glances" in value:
        place = shape.places["glances"]
        figures[place] = shape.readers[place](_glances(value), "glances", complaints)
    return None if complaints else kind(*figures)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A dataclass's fields in their order; `figures` gives their values in an instance.

    `exact` is the type of a value that needs no reading, `nested` the dataclass that a value is.
    """

    names: tuple[str, ...]
    readers: tuple[Reader, ...]
    required: tuple[bool, ...]
    places: dict[str, int]
    exact: tuple[type | None, ...]
    nested: tuple[type | None, ...]
    figures: Callable[[object], tuple[object, ...]]


@cache
def _shape(kind: type) -> _Shape:
    hints = typing.get_type_hints(kind)
    names = tuple(field.name for field in fields(kind))
    plain = [_without_none(hints[name]) for name in names]
    return _Shape(
        names,
        tuple(_reader(hints[name]) for name in names),
        tuple(
            field.default is MISSING and field.default_factory is MISSING for field in fields(kind)
        ),
        {name: place for place, name in enumerate(names)},
        tuple(hint if hint in _SCALARS else None for hint in plain),
        tuple(typing.cast(type, hint) if is_dataclass(hint) else None for hint in plain),
        attrgetter(*names),
    )


def _without_none(hint: typing.Any) -> typing.Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(one for one in typing.get_args(hint) if one is not type(None))
    return hint


def _is_plain(value: typing.Any) -> bool:
    return type(value) in (str, bool) or -_LARGEST < value < _LARGEST


def _rows(value: object, before: object, read: object) -> tuple[Slot, ...] | None:
    """Slots as a node sends them, read at once; None where anything is not plain."""
    ids = _ids(tuple(value)) if isinstance(value, dict) else None
    if ids is None or not isinstance(value, dict):
        return None
    known = read if isinstance(read, tuple) and isinstance(before, dict) else ()
    same = len(known) == len(value) and tuple(before) == tuple(value)  # type: ignore[arg-type]
    found = []
    for place, (key, number) in enumerate(ids):
        row = value[key]
        if same and before[key] is row:  # type: ignore[index]
            found.append(known[place])
            continue
        if type(row) is not list or not 0 < len(row) < _ROW or type(row[0]) is not bool:
            return None
        for figure in row[1:]:
            if figure is not None and (
                type(figure) is not int or not -_LARGEST < figure < _LARGEST
            ):
                return None
        found.append(Slot(number, *row))
    return tuple(found)


@lru_cache(maxsize=256)
def _ids(keys: tuple[object, ...]) -> tuple[tuple[str, int], ...] | None:
    """The slots' numbers in their order; None where a key is no plain number."""
    found = []
    for key in keys:
        if not isinstance(key, str) or _numeric(key)[0]:
            return None
        found.append((key, int(key)))
    return tuple(sorted(found, key=lambda pair: _numeric(pair[0])))


def _read_dataclass(
    kind: type, value: object, path: str, complaints: Complaints, key: str | None
) -> object:
    if isinstance(value, list) and kind in ROWS:
        value = dict(zip(ROWS[kind], value, strict=False))
    if not isinstance(value, dict):
        raise _WrongError(f"expected an object, got {shown(value)}")
    if kind is WorkerSample and "glances" in value:
        value = {**value, "glances": _glances(value)}
    values: dict[str, object] = {}
    named = KEY_FIELDS.get(kind)
    shape = _shape(kind)
    for name, reader, required in zip(shape.names, shape.readers, shape.required, strict=True):
        if name in value:
            found = value[name]
        elif name == named and key is not None:
            found = key
        else:
            if required:
                raise _WrongError(f"{name} is missing")
            continue
        if found is None and not required:
            continue
        try:
            values[name] = reader(found, f"{path}.{name}", complaints)
        except _WrongError as wrong:
            if required:
                raise _WrongError(f"{name}: {wrong.args[0]}") from None
            complaints.append(f"{path}.{name}: {wrong.args[0]}")
    return kind(**values)


def _glances(worker: dict[typing.Any, object]) -> object:
    return glances.read(worker["glances"], worker.get("slots"), worker.get("read_at_seconds"))


@cache
def _reader(hint: typing.Any) -> Reader:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        inner = _reader(_without_none(hint))
        return lambda value, path, complaints: (
            None if value is None else inner(value, path, complaints)
        )
    if origin is typing.Literal:
        return _literal_reader(arguments)
    if origin is tuple:
        return _tuple_reader(arguments[0])
    if origin is dict:
        return _dict_reader(arguments[1])
    if is_dataclass(hint):
        kind = typing.cast(type, hint)
        return lambda value, path, complaints: _read_dataclass(kind, value, path, complaints, None)
    return _SCALARS[hint]


def _literal_reader(words: tuple[object, ...]) -> Reader:
    def read(value: object, path: str, complaints: Complaints) -> object:
        if isinstance(value, str) and value in words:
            return value
        raise _WrongError(f"unknown word {shown(value)}")

    return read


def _tuple_reader(hint: typing.Any) -> Reader:
    kind = hint if is_dataclass(hint) and isinstance(hint, type) else None
    inner = _reader(hint)

    def read(value: object, path: str, complaints: Complaints) -> object:
        if isinstance(value, list):
            items: list[tuple[str | None, object]] = [(None, item) for item in value]
        elif isinstance(value, dict):
            items = list(value.items())
            items.sort(key=lambda item: _numeric(item[0] or ""))
        else:
            raise _WrongError(f"expected a list, got {shown(value)}")
        found = []
        for key, item in items:
            try:
                if kind is not None:
                    found.append(_read_dataclass(kind, item, path, complaints, key))
                else:
                    found.append(inner(item, path, complaints))
            except _WrongError as wrong:
                complaints.append(f"{path}: {wrong.args[0]}")
        return tuple(found)

    return read


def _dict_reader(hint: typing.Any) -> Reader:
    inner = _reader(hint)

    def read(value: object, path: str, complaints: Complaints) -> object:
        if not isinstance(value, dict):
            raise _WrongError(f"expected an object, got {shown(value)}")
        if inner is _string and all(type(item) is str for item in value.values()):
            # the very object, so that who reads it tells by `is` that it is still the same
            return value
        found = {}
        for key, item in value.items():
            try:
                found[key] = inner(item, path, complaints)
            except _WrongError as wrong:
                complaints.append(f"{path}[{shown(key)}]: {wrong.args[0]}")
        return found

    return read


def _string(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, str):
        return value
    raise _WrongError(f"expected text, got {shown(value)}")


def _integer(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, bool):
        raise _WrongError(f"expected a whole number, got {shown(value)}")
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    if isinstance(value, float) and abs(value) < _LARGEST and value.is_integer():
        return int(value)
    # The key of a slot is its id.
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    raise _WrongError(f"expected a whole number, got {shown(value)}")


def _number(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return float(value)
    raise _WrongError(f"expected a number, got {shown(value)}")


def _boolean(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, bool):
        return value
    raise _WrongError(f"expected true or false, got {shown(value)}")


_SCALARS: dict[object, Reader] = {str: _string, int: _integer, float: _number, bool: _boolean}


def _numeric(key: str) -> tuple[int, int, str]:
    if key.isascii() and key.isdecimal() and len(key) < 16:
        return (0, int(key), "")
    return (1, 0, key)


def shown(value: object) -> str:
    """The value for a complaint, short whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) < 40 else value[:39] + "…")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # A whole number of thousands of digits cannot even be printed.
    return repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"

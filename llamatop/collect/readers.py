"""Untyped values to the model's nouns: what is wrong is left out and complained of."""

from __future__ import annotations

import types
import typing
from functools import cache

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from llamatop.collect.scalars import (
    Complaints,
    Reader,
    WrongError,
    boolean,
    integer,
    number,
    numeric,
    shown,
    string,
)
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


def decode(kind: type, value: object, complaints: Complaints, key: str | None = None) -> object:
    """`value` as the noun `kind`, None where it cannot be one; never raises.

    Unknown keys are ignored; a field of the wrong type gets its default and a line in
    `complaints`. `key` fills the field that names it (a GPU's uuid, a slot's id).
    """
    try:
        return _read_noun(kind, value, kind.__name__, complaints, key)
    except WrongError as wrong:
        complaints.append(f"{kind.__name__}: {wrong.args[0]}")
        return None


def read_tunnels(value: object, complaints: Complaints) -> tuple[Tunnel, ...]:
    """A list or an object of tunnels; never raises, what is wrong is left out."""
    try:
        read = _reader(tuple[Tunnel, ...])(value or [], "tunnels", complaints)
    except WrongError as wrong:
        complaints.append(f"tunnels: {wrong.args[0]}")
        read = ()
    return typing.cast("tuple[Tunnel, ...]", read)


class Field(Struct, frozen=True):
    """One field of a noun: its place among them, and how its values are read.

    `exact` is the type of a value that needs no reading, `nested` the noun that a value is.
    """

    place: int
    reader: Reader
    required: bool
    exact: type | None
    nested: type | None


@cache
def fields_of(kind: type) -> dict[str, Field]:
    """How each field of the noun is read, by name and in their order; worked out once."""
    hints = typing.get_type_hints(kind)
    found = {}
    for place, field in enumerate(fields(kind)):
        plain = _without_none(hints[field.name])
        found[field.name] = Field(
            place,
            _reader(hints[field.name]),
            field.default is NODEFAULT and field.default_factory is NODEFAULT,
            plain if plain in SCALARS else None,
            plain if _is_noun(plain) else None,
        )
    return found


def _is_noun(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def _without_none(hint: typing.Any) -> typing.Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(one for one in typing.get_args(hint) if one is not type(None))
    return hint


def _read_noun(
    kind: type, value: object, path: str, complaints: Complaints, key: str | None
) -> object:
    if isinstance(value, list) and kind in ROWS:
        value = dict(zip(ROWS[kind], value, strict=False))
    if not isinstance(value, dict):
        raise WrongError(f"expected an object, got {shown(value)}")
    if kind is WorkerSample and "glances" in value:
        value = {**value, "glances": read_glances(value)}
    values: dict[str, object] = {}
    named = KEY_FIELDS.get(kind)
    for name, field in fields_of(kind).items():
        if name in value:
            found = value[name]
        elif name == named and key is not None:
            found = key
        else:
            if field.required:
                raise WrongError(f"{name} is missing")
            continue
        if found is None and not field.required:
            continue
        try:
            values[name] = field.reader(found, f"{path}.{name}", complaints)
        except WrongError as wrong:
            if field.required:
                raise WrongError(f"{name}: {wrong.args[0]}") from None
            complaints.append(f"{path}.{name}: {wrong.args[0]}")
    return kind(**values)


def read_glances(worker: dict[typing.Any, object]) -> object:
    """The glances of a worker as the wire has it, each with its slots whole."""
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
    if _is_noun(hint):
        kind = typing.cast(type, hint)
        return lambda value, path, complaints: _read_noun(kind, value, path, complaints, None)
    return SCALARS[hint]


def _literal_reader(words: tuple[object, ...]) -> Reader:
    def read(value: object, path: str, complaints: Complaints) -> object:
        if isinstance(value, str) and value in words:
            return value
        raise WrongError(f"unknown word {shown(value)}")

    return read


def _tuple_reader(hint: typing.Any) -> Reader:
    kind = hint if _is_noun(hint) else None
    inner = _reader(hint)

    def read(value: object, path: str, complaints: Complaints) -> object:
        if isinstance(value, list):
            items: list[tuple[str | None, object]] = [(None, item) for item in value]
        elif isinstance(value, dict):
            items = list(value.items())
            items.sort(key=lambda item: numeric(item[0] or ""))
        else:
            raise WrongError(f"expected a list, got {shown(value)}")
        found = []
        for key, item in items:
            try:
                if kind is not None:
                    found.append(_read_noun(kind, item, path, complaints, key))
                else:
                    found.append(inner(item, path, complaints))
            except WrongError as wrong:
                complaints.append(f"{path}: {wrong.args[0]}")
        return tuple(found)

    return read


def _dict_reader(hint: typing.Any) -> Reader:
    inner = _reader(hint)

    def read(value: object, path: str, complaints: Complaints) -> object:
        if not isinstance(value, dict):
            raise WrongError(f"expected an object, got {shown(value)}")
        if inner is string and all(type(item) is str for item in value.values()):
            # the very object, so that who reads it tells by `is` that it is still the same
            return value
        found = {}
        for key, item in value.items():
            try:
                found[key] = inner(item, path, complaints)
            except WrongError as wrong:
                complaints.append(f"{path}[{shown(key)}]: {wrong.args[0]}")
        return found

    return read


SCALARS: dict[object, Reader] = {str: string, int: integer, float: number, bool: boolean}

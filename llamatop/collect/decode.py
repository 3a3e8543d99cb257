"""A probe's document to the nouns of the model; total: what is wrong becomes a fault."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache

from llamatop.engines import glances, slots
from llamatop.model.observed import (
    BalancerSample,
    EngineLoad,
    GpuSample,
    HostSample,
    LoadedModel,
    NodeSnapshot,
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
}

# Where one of these is a list, it holds the fields of these names in this order.
ROWS: dict[type, tuple[str, ...]] = {Slot: slots.FIELDS}

# No count, size or time of a cluster comes near it; sums and products of these stay finite.
_LARGEST = 2**63

Complaints = list[str]
Reader = Callable[[object, str, Complaints], object]


class _WrongError(Exception):
    """A value that cannot be read as its type; `args[0]` says what was expected."""


class Decoder:
    """Decodes one node's successive documents; what did not change is not decoded again."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[tuple[str, str], tuple[object, object, Complaints]] = {}

    def snapshot(self, document: object, received_at: float) -> NodeSnapshot:
        """The document as a snapshot; never raises, a wrong part is told in `faults`.

        `received_at` is this side's monotonic clock in seconds. `balancer.members` stays None:
        they are read from the files the document carries.
        """
        known, self._known = self._known, {}
        source = document if isinstance(document, dict) else {}
        faults: dict[str, str] = {}
        for part, text in _pairs(source.get("faults")):
            if isinstance(text, str):
                faults[part] = text
        ages = {
            part: float(age)
            for part, age in _pairs(source.get("ages"))
            if isinstance(age, int | float) and not isinstance(age, bool) and 0 <= age < 1e12
        }

        def one(part: str, key: str, value: object, kind: type) -> object:
            before = known.get((part, key))
            if before is not None and before[0] is value:
                entry = before
            else:
                complaints: Complaints = []
                entry = (value, decode(kind, value, complaints, key=key or None), complaints)
            self._known[part, key] = entry
            if entry[2]:
                faults.setdefault(f"{part}/{key}" if key else part, "; ".join(entry[2][:3]))
            return entry[1]

        def many(part: str, kind: type) -> dict[str, typing.Any]:
            value = source.get(part)
            if value is not None and not isinstance(value, dict):
                faults.setdefault(part, f"{part}: expected an object, got {_shown(value)}")
            read = {key: one(part, key, item, kind) for key, item in _pairs(value)}
            return {key: item for key, item in read.items() if item is not None}

        host = one("host", "", source.get("host"), HostSample) if "host" in source else None
        balancer = None
        if "balancer" in source:
            balancer = one("balancer", "", source["balancer"], BalancerSample)
        workers = many("workers", WorkerSample)
        for unit, worker in workers.items():
            if worker.fault is None and f"workers/{unit}" in faults:
                workers[unit] = replace(worker, fault=faults[f"workers/{unit}"])
        gpus = many("gpus", GpuSample)
        for uuid, gpu in gpus.items():
            if gpu.fault is None and f"gpus/{uuid}" in faults:
                gpus[uuid] = replace(gpu, fault=faults[f"gpus/{uuid}"])
        tick = source.get("tick")
        return NodeSnapshot(
            name=self._node,
            reachable=True,
            received_at=received_at,
            tick=tick if isinstance(tick, int) and not isinstance(tick, bool) else None,
            faults=faults,
            ages=ages,
            host=host if isinstance(host, HostSample) else HostSample(),
            gpus=gpus,
            units=many("units", UnitState),
            workers=workers,
            tunnels=self._tunnels(source.get("tunnels"), known, faults),
            balancer=balancer if isinstance(balancer, BalancerSample) else None,
        )

    def _tunnels(
        self,
        value: object,
        known: dict[tuple[str, str], tuple[object, object, Complaints]],
        faults: dict[str, str],
    ) -> tuple[Tunnel, ...]:
        before = known.get(("tunnels", ""))
        if before is not None and before[0] is value:
            entry = before
        else:
            complaints: Complaints = []
            try:
                read = _reader(tuple[Tunnel, ...])(value or [], "tunnels", complaints)
            except _WrongError as wrong:
                complaints.append(f"tunnels: {wrong.args[0]}")
                read = ()
            entry = (value, read, complaints)
        self._known["tunnels", ""] = entry
        if entry[2]:
            faults.setdefault("tunnels", "; ".join(entry[2][:3]))
        return typing.cast("tuple[Tunnel, ...]", entry[1])


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


@cache
def _plan(kind: type) -> tuple[tuple[str, Reader, bool], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        (
            field.name,
            _reader(hints[field.name]),
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    )


def _read_dataclass(
    kind: type, value: object, path: str, complaints: Complaints, key: str | None
) -> object:
    if isinstance(value, list) and kind in ROWS:
        value = dict(zip(ROWS[kind], value, strict=False))
    if not isinstance(value, dict):
        raise _WrongError(f"expected an object, got {_shown(value)}")
    if kind is WorkerSample and "glances" in value:
        value = {**value, "glances": _glances(value)}
    values: dict[str, object] = {}
    named = KEY_FIELDS.get(kind)
    for name, reader, required in _plan(kind):
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
        inner = _reader(next(one for one in arguments if one is not type(None)))
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
        raise _WrongError(f"unknown word {_shown(value)}")

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
            raise _WrongError(f"expected a list, got {_shown(value)}")
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
            raise _WrongError(f"expected an object, got {_shown(value)}")
        if inner is _string and all(type(item) is str for item in value.values()):
            # the very object, so that who reads it tells by `is` that it is still the same
            return value
        found = {}
        for key, item in value.items():
            try:
                found[key] = inner(item, path, complaints)
            except _WrongError as wrong:
                complaints.append(f"{path}[{_shown(key)}]: {wrong.args[0]}")
        return found

    return read


def _string(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, str):
        return value
    raise _WrongError(f"expected text, got {_shown(value)}")


def _integer(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, bool):
        raise _WrongError(f"expected a whole number, got {_shown(value)}")
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    if isinstance(value, float) and abs(value) < _LARGEST and value.is_integer():
        return int(value)
    # The key of a slot is its id.
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    raise _WrongError(f"expected a whole number, got {_shown(value)}")


def _number(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return float(value)
    raise _WrongError(f"expected a number, got {_shown(value)}")


def _boolean(value: object, path: str, complaints: Complaints) -> object:
    if isinstance(value, bool):
        return value
    raise _WrongError(f"expected true or false, got {_shown(value)}")


_SCALARS: dict[object, Reader] = {str: _string, int: _integer, float: _number, bool: _boolean}


def _numeric(key: str) -> tuple[int, int, str]:
    if key.isascii() and key.isdecimal() and len(key) < 16:
        return (0, int(key), "")
    return (1, 0, key)


def _pairs(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) < 40 else value[:39] + "…")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # A whole number of thousands of digits cannot even be printed.
    return repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"

"""A probe's document to the nouns of the model; total: what is wrong becomes a fault."""

from __future__ import annotations

import typing
from dataclasses import replace

from llamatop.collect.readers import Complaints, again, decode, read_tunnels, shown
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import (
    BalancerSample,
    GpuSample,
    HostSample,
    NodeSnapshot,
    Tunnel,
    UnitState,
    WorkerSample,
)


class _Read(typing.NamedTuple):
    """A piece of a document, what it was read as, and what was wrong with it."""

    value: object
    found: typing.Any
    complaints: Complaints


class Decoder:
    """Decodes one node's successive documents; what did not change is not decoded again."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._parts: dict[str, tuple[object, dict[str, _Read]]] = {}
        self._tunnels = _Read(None, (), [])

    def snapshot(self, document: object, received_at: float) -> NodeSnapshot:
        """The document as a snapshot; never raises, a wrong part is told in `faults`.

        `received_at` is this side's monotonic clock in seconds. `balancer.members` stays None:
        they are read from the files the document carries.
        """
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
        host = self._one("host", source, HostSample, faults)
        balancer = self._one("balancer", source, BalancerSample, faults)
        workers = self._many("workers", source, WorkerSample, faults)
        gpus = self._many("gpus", source, GpuSample, faults)
        units = self._many("units", source, UnitState, faults)
        models = self._many("models", source, ModelFile, faults)
        tick = source.get("tick")
        return NodeSnapshot(
            name=self._node,
            reachable=True,
            received_at=received_at,
            tick=tick if isinstance(tick, int) and not isinstance(tick, bool) else None,
            faults=faults,
            ages=ages,
            host=host if isinstance(host, HostSample) else HostSample(),
            gpus=_with_faults("gpus", gpus, faults),
            units=units,
            workers=_with_faults("workers", workers, faults),
            models=models,
            tunnels=self._read_tunnels(source.get("tunnels"), faults),
            balancer=balancer if isinstance(balancer, BalancerSample) else None,
        )

    def _one(
        self, part: str, source: dict[str, object], kind: type, faults: dict[str, str]
    ) -> object:
        if part not in source:
            self._parts.pop(part, None)
            return None
        known = self._parts.get(part, (None, {}))[1].get("")
        read = _read(kind, "", source[part], known)
        self._parts[part] = (source[part], {"": read})
        if read.complaints:
            faults.setdefault(part, "; ".join(read.complaints[:3]))
        return read.found

    def _many(
        self, part: str, source: dict[str, object], kind: type, faults: dict[str, str]
    ) -> dict[str, typing.Any]:
        value = source.get(part)
        if value is not None and not isinstance(value, dict):
            faults.setdefault(part, f"{part}: expected an object, got {shown(value)}")
        before, known = self._parts.get(part, (None, {}))
        if before is not value or value is None:
            known = {key: _read(kind, key, item, known.get(key)) for key, item in _pairs(value)}
            self._parts[part] = (value, known)
        found = {}
        for key, read in known.items():
            if read.complaints:
                faults.setdefault(f"{part}/{key}", "; ".join(read.complaints[:3]))
            if read.found is not None:
                found[key] = read.found
        return found

    def _read_tunnels(self, value: object, faults: dict[str, str]) -> tuple[Tunnel, ...]:
        if self._tunnels.value is not value:
            complaints: Complaints = []
            self._tunnels = _Read(value, read_tunnels(value, complaints), complaints)
        if self._tunnels.complaints:
            faults.setdefault("tunnels", "; ".join(self._tunnels.complaints[:3]))
        found: tuple[Tunnel, ...] = self._tunnels.found
        return found


def _read(kind: type, key: str, value: object, known: _Read | None) -> _Read:
    if known is not None:
        if known.value is value:
            return known
        if known.found is not None and not known.complaints:
            found = again(kind, known.value, known.found, value)
            if found is not None:
                return _Read(value, found, [])
    complaints: Complaints = []
    return _Read(value, decode(kind, value, complaints, key=key or None), complaints)


def _with_faults(
    part: str, found: dict[str, typing.Any], faults: dict[str, str]
) -> dict[str, typing.Any]:
    """What has no fault of its own gets what is wrong with it here."""
    if faults:
        for key, one in found.items():
            if one.fault is None and f"{part}/{key}" in faults:
                found[key] = replace(one, fault=faults[f"{part}/{key}"])
    return found


def _pairs(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []

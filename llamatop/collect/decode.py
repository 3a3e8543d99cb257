"""A probe's document to the nouns of the model; total: what is wrong becomes a fault."""

from __future__ import annotations

import typing
from collections import defaultdict

from msgspec import UNSET, Struct, field
from msgspec.structs import replace

from llamatop.collect import ticks
from llamatop.collect.contexts import CONTEXT_IS_OF, with_whole_context
from llamatop.collect.readers import decode, read_tunnels
from llamatop.collect.renewing import again, changes
from llamatop.collect.scalars import Complaints, shown
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

Document = dict[str, typing.Any]

_NONE: frozenset[str] = frozenset()
# Fields that others are worked out from: where one of these changed, all is read.
_WHOLE: dict[type, frozenset[str]] = {WorkerSample: CONTEXT_IS_OF}


class _Read(typing.NamedTuple):
    """A piece of a document, what it was read as, and what was wrong with it."""

    value: object
    found: typing.Any
    complaints: Complaints


class _Part(Struct):
    """A part of a document that holds many of a kind: all that could be read, and complaints."""

    value: object = None
    found: dict[str, typing.Any] = field(default_factory=dict)
    wrong: dict[str, Complaints] = field(default_factory=dict)


class Decoder:
    """Decodes one node's successive documents; what did not change is not decoded again."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._alone: dict[str, _Read] = {}
        self._many: dict[str, _Part] = defaultdict(_Part)
        self._tunnels = _Read(None, (), [])
        # What has moved since the document was true, by part and key, and the tick it moved at.
        self._moved: dict[str, set[str]] = {}
        self._tick: int | None = None

    def snapshot(self, document: object, received_at: float, patch: object = None) -> NodeSnapshot:
        """The document as a snapshot; never raises, a wrong part is told in `faults`.

        `received_at` is this side's monotonic clock in seconds. `patch` is what made this document
        of the one given before, where that is known: what it does not touch is not looked at.
        `balancer.members` stays None: they are read from the files the document carries.
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
        touched = patch if isinstance(patch, dict) else {}
        host = self._one("host", source, HostSample, touched, faults)
        balancer = self._one("balancer", source, BalancerSample, touched, faults)
        workers = self._all("workers", source, WorkerSample, touched, faults)
        gpus = self._all("gpus", source, GpuSample, touched, faults)
        units = self._all("units", source, UnitState, touched, faults)
        models = self._all("models", source, ModelFile, touched, faults)
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

    def moved(
        self, tick: ticks.Tick, before: NodeSnapshot, received_at: float
    ) -> NodeSnapshot | None:
        """The snapshot `before`, which came last, after a tick; None where all must be read."""
        patches: dict[str, typing.Mapping[str, ticks.Moved]]
        patches = {"gpus": tick.gpus, "units": tick.units, "workers": tick.workers}
        found = {}
        for part, patch in patches.items():
            known = self._many[part]
            renewed = _moved(part, patch, known) if patch else known.found
            if renewed is None or not isinstance(known.value, dict | None):
                return None
            found[part] = renewed
        host = before.host
        if tick.host is not UNSET:
            alone = self._alone.get("host")
            if alone is None or alone.complaints:
                return None
            host = ticks.HOST.after(host, tick.host)
            self._alone["host"] = alone._replace(found=host)
            self._moved.setdefault("host", set())
        self._tick = tick.tick
        for part, patch in patches.items():
            if patch:
                self._many[part].found = found[part]
                self._moved.setdefault(part, set()).update(patch)
        return replace(
            before,
            received_at=received_at,
            tick=tick.tick,
            host=host,
            gpus=_with_faults("gpus", found["gpus"], before.faults),
            units=found["units"],
            workers=_with_faults("workers", found["workers"], before.faults),
        )

    def caught_up(self, document: Document) -> Document:
        """The document of the last snapshot with what has moved since."""
        if self._tick is None:
            return document
        document = {**document, "tick": self._tick}
        self._tick = None
        for part, keys in self._moved.items():
            before = document.get(part)
            if part == "host":
                read = self._alone[part]
                document[part] = ticks.HOST.document(read.found, before)
                self._alone[part] = read._replace(value=document[part])
            else:
                renewal, known = ticks.PARTS[part], self._many[part]
                now = dict(before) if isinstance(before, dict) else {}
                now.update({key: renewal.document(known.found[key], now.get(key)) for key in keys})
                document[part] = known.value = now
        self._moved.clear()
        return document

    def _one(
        self,
        part: str,
        source: dict[str, object],
        kind: type,
        touched: dict[str, object],
        faults: dict[str, str],
    ) -> object:
        if part not in source:
            self._alone.pop(part, None)
            return None
        value, known, read = source[part], self._alone.get(part), None
        if known is not None and known.value is value:
            read = known
        elif known is not None and known.found is not None and not known.complaints:
            found = again(kind, known.value, known.found, value, touched.get(part))
            read = _Read(value, found, known.complaints) if found is not None else None
        if read is None:
            read = _read(kind, "", value)
        self._alone[part] = read
        if read.complaints:
            faults.setdefault(part, "; ".join(read.complaints[:3]))
        return read.found

    def _all(
        self,
        part: str,
        source: dict[str, object],
        kind: type,
        touched: dict[str, object],
        faults: dict[str, str],
    ) -> dict[str, typing.Any]:
        value = source.get(part)
        if value is not None and not isinstance(value, dict):
            faults.setdefault(part, f"{part}: expected an object, got {shown(value)}")
        known = self._many[part]
        if known.value is not value or value is None:
            known = self._many[part] = _part(kind, value, known, touched.get(part))
        for key, complaints in known.wrong.items():
            faults.setdefault(f"{part}/{key}", "; ".join(complaints[:3]))
        return known.found

    def _read_tunnels(self, value: object, faults: dict[str, str]) -> tuple[Tunnel, ...]:
        if self._tunnels.value is not value:
            complaints: Complaints = []
            self._tunnels = _Read(value, read_tunnels(value, complaints), complaints)
        if self._tunnels.complaints:
            faults.setdefault("tunnels", "; ".join(self._tunnels.complaints[:3]))
        found: tuple[Tunnel, ...] = self._tunnels.found
        return found


def _moved(
    part: str, patch: typing.Mapping[str, ticks.Moved], known: _Part
) -> dict[str, typing.Any] | None:
    """All of a part after a tick; None where one of them must be read whole."""
    renewal, found, wrong = ticks.PARTS[part], known.found.copy(), known.wrong
    for key, moved in patch.items():
        was = found.get(key)
        if was is None or key in wrong:
            return None
        if isinstance(moved, ticks.WorkerMoved) and not _slots_alone(known.value, key, moved):
            return None
        now = found[key] = renewal.after(was, moved)
        if now is None:
            return None
    return found


def _slots_alone(document: typing.Any, unit: str, moved: ticks.WorkerMoved) -> bool:
    """Whether nothing is told by a worker's slots together, and those that moved were there."""
    worker = document[unit]
    if "glances" in worker:
        return False
    if moved.slots is UNSET:
        return True
    slots = worker.get("slots")
    return isinstance(slots, dict) and slots.keys() >= moved.slots.keys()


def _part(kind: type, value: object, known: _Part, touched: object) -> _Part:
    before = known.value if isinstance(known.value, dict) else {}
    after = value if isinstance(value, dict) else {}
    found, wrong = known.found.copy(), known.wrong.copy()
    whole = _WHOLE.get(kind, _NONE)
    patch = touched if isinstance(touched, dict) else changes(before, after)
    for key, change in patch.items():
        item = after.get(key)
        was = found.get(key) if key not in wrong else None
        if change is not None and was is not None:
            inner = change if patch is touched else None
            renewed = again(kind, before[key], was, item, inner, whole)
            if renewed is not None:
                found[key] = renewed
                continue
        found.pop(key, None)
        wrong.pop(key, None)
        if change is not None:
            read = _read(kind, key, item)
            if read.found is not None:
                found[key] = read.found
            if read.complaints:
                wrong[key] = read.complaints
    return _Part(value, found, wrong)


def _read(kind: type, key: str, value: object) -> _Read:
    complaints: Complaints = []
    found = decode(kind, value, complaints, key=key or None)
    if isinstance(found, WorkerSample):
        found = with_whole_context(found)
    return _Read(value, found, complaints)


def _with_faults(
    part: str, found: dict[str, typing.Any], faults: dict[str, str]
) -> dict[str, typing.Any]:
    """What has no fault of its own gets what is wrong with it here."""
    if not faults:
        return found
    return {
        key: replace(one, fault=faults[f"{part}/{key}"])
        if one.fault is None and f"{part}/{key}" in faults
        else one
        for key, one in found.items()
    }


def _pairs(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []

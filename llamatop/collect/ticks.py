"""A line that holds nothing but the figures that move at every tick, straight to the model's nouns.

Nearly every line of a node is one, so it is decoded and checked in one go, without a document
that it is merged into; a line that holds anything else is for `decode`.
"""

from __future__ import annotations

import typing

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import astuple

from llamatop.collect.scalars import LARGEST
from llamatop.engines import slots
from llamatop.model.observed import (
    GpuSample,
    HostSample,
    Slot,
    TokenCounters,
    UnitState,
    WorkerSample,
)

# The same limits as `scalars` sets; what breaks them is complained of there.
Whole = typing.Annotated[int, msgspec.Meta(ge=-LARGEST + 1, le=LARGEST - 1)]
Number = typing.Annotated[float, msgspec.Meta(gt=float(-LARGEST), lt=float(LARGEST))]
SomeWhole = Whole | UnsetType
SomeNumber = Number | UnsetType


class Row(Struct, array_like=True, forbid_unknown_fields=True):
    """A slot on the wire, its fields in the order of `engines.slots.FIELDS`."""

    busy: bool
    context_tokens: Whole | None = None
    task_id: Whole | None = None
    prompt_tokens: Whole | None = None
    prompt_tokens_processed: Whole | None = None
    prompt_tokens_cached: Whole | None = None
    generated_tokens: Whole | None = None
    remaining_tokens: Whole | None = None


class Moved(Struct, forbid_unknown_fields=True):
    """What may move of a noun, by the names of the model; UNSET is as before."""


class HostMoved(Moved):
    """Of a `HostSample`."""

    cpu_percent: SomeNumber = UNSET
    memory_used_bytes: SomeWhole = UNSET
    load1: SomeNumber = UNSET
    uptime_seconds: SomeNumber = UNSET


class GpuMoved(Moved):
    """Of a `GpuSample`."""

    utilization_percent: SomeNumber = UNSET
    memory_used_bytes: SomeWhole = UNSET
    power_watts: SomeNumber = UNSET
    temperature_celsius: SomeNumber = UNSET
    sm_clock_mhz: SomeWhole = UNSET
    memory_clock_mhz: SomeWhole = UNSET


class UnitMoved(Moved):
    """Of a `UnitState`."""

    memory_bytes: SomeWhole = UNSET


class CountersMoved(Moved):
    """Of `TokenCounters`."""

    generation_tokens_total: SomeNumber = UNSET
    generation_tokens_step: SomeNumber = UNSET
    prompt_tokens_total: SomeNumber = UNSET
    prompt_tokens_step: SomeNumber = UNSET


class WorkerMoved(Moved):
    """Of a `WorkerSample`."""

    read_at_seconds: SomeNumber = UNSET
    latency_seconds: SomeNumber = UNSET
    requests_processing: SomeWhole = UNSET
    requests_deferred: SomeWhole = UNSET
    kv_cache_percent: SomeNumber = UNSET
    counters: CountersMoved | UnsetType = UNSET
    slots: dict[str, Row] | UnsetType = UNSET


class Tick(Struct, forbid_unknown_fields=True):
    """A line; the nouns by their keys."""

    tick: Whole
    host: HostMoved | UnsetType = UNSET
    gpus: dict[str, GpuMoved] = {}
    units: dict[str, UnitMoved] = {}
    workers: dict[str, WorkerMoved] = {}


_decoder = msgspec.json.Decoder(Tick)
PLACES = {str(number): number for number in range(slots.MOST_SLOTS)}


def read(line: bytes) -> Tick | None:
    """The line as a tick, None where it holds anything else or anything that is wrong."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Renewal:
    """Makes nouns of one kind anew from what moved of them."""

    def __init__(self, kind: type[Struct], moved: type[Moved]) -> None:
        self._kind = kind
        self._names = moved.__struct_fields__
        self._places = [kind.__struct_fields__.index(name) for name in self._names]

    def after(self, noun: typing.Any, moved: Moved) -> typing.Any:
        """The noun as it is now; None where its slots must be read whole."""
        figures = list(astuple(noun))
        for place, figure in zip(self._places, astuple(moved), strict=True):
            if figure is not UNSET:
                kind = type(figure)
                if kind is dict:
                    figure = _slots(figures[place], figure)
                    if figure is None:
                        return None
                elif kind is CountersMoved:
                    figure = COUNTERS.after(figures[place], figure)
                figures[place] = figure
        return self._kind(*figures)

    def document(self, noun: object, before: object) -> dict[str, object]:
        """What a document holds of the noun, where it held `before` when it was read."""
        found: dict[str, object] = dict(before) if isinstance(before, dict) else {}
        for name in self._names:
            figure = getattr(noun, name)
            if name == "slots" and figure is not None:
                figure = {str(slot.id): list(astuple(slot)[1:]) for slot in figure}
            elif name == "counters":
                figure = COUNTERS.document(figure, found.get(name))
            if figure is not None:
                found[name] = figure
        return found


def _slots(before: object, rows: dict[str, Row]) -> tuple[Slot, ...] | None:
    """Slots after some of them moved, which were there under these keys."""
    if not isinstance(before, tuple):
        return None
    found: list[Slot] = list(before)
    for key, row in rows.items():
        place = PLACES.get(key, len(found))
        if place >= len(found) or found[place].id != place:
            return None
        found[place] = Slot(place, *astuple(row))
    return tuple(found)


COUNTERS = Renewal(TokenCounters, CountersMoved)
HOST = Renewal(HostSample, HostMoved)
PARTS = {
    "gpus": Renewal(GpuSample, GpuMoved),
    "units": Renewal(UnitState, UnitMoved),
    "workers": Renewal(WorkerSample, WorkerMoved),
}

"""A snapshot as the plain document that a recording holds.

It has the model's own names, without what is None or as the model has it by default, and without
what only the making of rates needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from llamatop.model.cluster import ClusterSnapshot, Event, GpuView, NodeView, WorkerView
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.model.observed import (
    GpuSample,
    HostSample,
    Launch,
    NodeSnapshot,
    Slot,
    UnitState,
    WorkerSample,
)

Document = dict[str, Any]
Redact = Callable[[str], str]

# What stands elsewhere in the document, what no screen shows (clocks, the counts that rates are
# made of), and commands and paths of the operator's own machine.
LEFT_OUT: Mapping[type, frozenset[str]] = {
    Cluster: frozenset({"ssh_config", "known_hosts", "path", "nodes", "alerts"}),
    Node: frozenset({"name", "units", "workers"}),
    Balancer: frozenset({"test", "reload"}),
    NodeView: frozenset({"name", "snapshot"}),
    NodeSnapshot: frozenset(
        {"name", "reachable", "received_at", "tick", "host", "gpus", "units", "workers"}
        | {"balancer", "models"}
    ),
    HostSample: frozenset({"uptime_seconds", "boot_id"}),
    UnitState: frozenset({"name", "memory_bytes"}),
    GpuView: frozenset({"node", "sample", "age_seconds"}),
    GpuSample: frozenset({"uuid"}),
    Event: frozenset({"at"}),
    WorkerView: frozenset(
        {"name", "unit", "sample", "age_seconds", "silent_seconds", "context_used_tokens"}
    ),
    WorkerSample: frozenset(
        {"unit", "glances", "read_at_seconds", "latency_seconds", "counters", "identity", "slots"}
    ),
}
_DIGITS = {
    "age_seconds": 3,
    "queued_seconds": 0,
    "generation_tokens_per_second": 2,
    "prompt_tokens_per_second": 2,
}
_KNOWN_LAUNCHES = 10_000
_SCALARS = frozenset((bool, int))


class Encoder:
    """Snapshots to documents; an object that is the same as before gives the same part again.

    `redact` is asked for every text.
    """

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._known: dict[tuple[str, str], tuple[object, Document]] = {}
        # A worker that works is a new object at every tick, how it was started is not.
        self._launches: dict[Launch, Document] = {}

    def document(self, snapshot: ClusterSnapshot) -> Document:
        """The whole snapshot but its events and its time."""
        known, self._known = self._known, {}
        now, text = self._known, self._redact

        def same(
            part: str, key: str, value: Any, make: Callable[[Any], Document] = self.plain
        ) -> Document:
            before = known.get((part, key))
            if before is None or before[0] is not value:
                before = (value, make(value))
            now[part, key] = before
            return before[1]

        cluster = snapshot.cluster
        document: Document = {
            "cluster": {
                **same("cluster", "", cluster),
                "nodes": {
                    text(node.name): same("declared", node.name, node) for node in cluster.nodes
                },
            },
            "healthy": snapshot.healthy,
            "totals": self.plain(snapshot.totals),
            "nodes": {},
            "gpus": {},
            "workers": {},
            "members": self.plain(snapshot.members),
        }
        units: dict[str, Mapping[str, UnitState]] = {}
        for node in snapshot.nodes:
            seen = node.snapshot
            units[node.name] = seen.units
            document["nodes"][text(node.name)] = {
                **self.plain(node),
                **self.plain(seen),
                "host": same("host", node.name, seen.host),
                "units": {
                    text(name): same(f"unit {node.name}", name, unit)
                    for name, unit in seen.units.items()
                },
            }
            if seen.models:
                document["nodes"][text(node.name)]["models"] = {
                    text(path): same(f"model {node.name}", path, file)
                    for path, file in seen.models.items()
                }
        for gpu in snapshot.gpus:
            card = same(f"gpu {gpu.node}", gpu.sample.uuid, gpu, self._gpu)
            document["gpus"].setdefault(text(gpu.node), {})[text(gpu.sample.uuid)] = card
        for worker in snapshot.workers:
            entry = same("worker", worker.name, worker, self._worker)
            unit = units.get(worker.node, {}).get(worker.unit.name)
            if unit is not worker.unit and unit != worker.unit:
                entry = {**entry, "unit_alone": same("unit", worker.name, worker.unit)}
            document["workers"][text(worker.name)] = entry
        if snapshot.balancer_node is not None:
            document["balancer_node"] = text(snapshot.balancer_node)
        if snapshot.balancer is not None:
            document["balancer"] = same("balancer", "", snapshot.balancer)
        return document

    def _gpu(self, gpu: GpuView) -> Document:
        return {**self._noun(gpu.sample), **self._noun(gpu)}

    def _worker(self, worker: WorkerView) -> Document:
        found: Document = {
            "unit": self._redact(worker.unit.name),
            **self._noun(worker),
            "sample": self._sample(worker.sample),
        }
        # When a model is unloaded is told by the node's clock and how long ago that was read.
        if worker.sample.loaded and worker.sample.read_at_seconds is not None:
            found["sample"]["read_at_seconds"] = worker.sample.read_at_seconds
            if worker.age_seconds is not None:
                found["age_seconds"] = worker.age_seconds
        return found

    def _sample(self, sample: WorkerSample) -> Document:
        found: Document = self.plain(sample)
        if sample.slots is not None:
            # These tell how many requests there are, with all that the screen says of each.
            found.pop("requests_processing", None)
            found["slots"] = {str(slot.id): slot_document(slot) for slot in sample.slots}
        return found

    def plain(self, value: Any, digits: int | None = None) -> Any:
        """`value` of the model in the types that JSON has."""
        kind = type(value)
        if kind is str:
            return self._redact(value)
        if kind in _SCALARS or value is None:
            return value
        if kind is float:
            return number(value, digits)
        if kind is tuple or kind is list:
            return [self.plain(item) for item in value]
        if kind is Launch:
            known = self._launches.get(value)
            if known is None:
                if len(self._launches) > _KNOWN_LAUNCHES:
                    self._launches.clear()
                known = self._launches[value] = self._noun(value)
            return known
        if issubclass(kind, Struct):
            return self._noun(value)
        if isinstance(value, Mapping):
            return {self._redact(str(key)): self.plain(item) for key, item in value.items()}
        return self._redact(str(value))

    def _noun(self, value: Any) -> Document:
        found: Document = {}
        for name, default, places in _plan(type(value)):  # type: ignore[arg-type]  # a class is hashable
            item = getattr(value, name)
            # Most are nothing; the next most are numbers and texts that need no second call.
            if item is None or item is default:
                continue
            kind = type(item)
            if kind is str:
                item = self._redact(item)
            elif kind is float:
                item = number(item, places)
            elif item == default:
                continue
            elif kind not in _SCALARS:
                item = self.plain(item)
            if item is not None:
                found[name] = item
        return found


def slot_document(slot: Slot) -> Document:
    """What the screen says of a slot.

    A prompt grows by what is generated, and what is left shrinks by it: written is what it was
    asked with and how much it may generate, which stay the same as long as the task.
    """
    found: Document = {}
    if slot.busy:
        found["busy"] = True
    if slot.context_tokens is not None:
        found["context_tokens"] = slot.context_tokens
    if not slot.busy:
        return found
    generated = slot.generated_tokens or 0
    if slot.generated_tokens is not None:
        found["generated_tokens"] = generated
    if slot.prompt_tokens is not None:
        found["asked_tokens"] = slot.prompt_tokens - generated
    if slot.remaining_tokens is not None:
        found["limit_tokens"] = slot.remaining_tokens + generated
    return found


def number(value: float, digits: int | None = None) -> float | int | None:
    """A float as short as JSON can have it; None where it is no number."""
    if not math.isfinite(value):
        return None
    if digits is not None:
        value = round(value, digits)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


@cache
def _plan(kind: type[Any]) -> tuple[tuple[str, object, int | None], ...]:
    out = LEFT_OUT.get(kind, frozenset())
    planned = []
    for field in fields(kind):
        if field.name in out:
            continue
        default: object = field.default
        if field.default_factory is not NODEFAULT:
            default = field.default_factory()
        planned.append((field.name, default, _DIGITS.get(field.name)))
    return tuple(planned)

"""A recording's document as the snapshot it was made of; what is wrong or missing is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from llamatop.collect.readers import decode
from llamatop.model.cluster import (
    ClusterSnapshot,
    Event,
    GpuView,
    MemberView,
    NodeView,
    Severity,
    Totals,
    WorkerView,
)
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import (
    BalancerSample,
    GpuSample,
    HostSample,
    UnitState,
)
from llamatop.record.document import Document

Kind = TypeVar("Kind")


class _Told(Struct, frozen=True):
    severity: Severity
    text: str
    node: str | None = None
    worker: str | None = None


class Decoder:
    """Documents to snapshots; what is the same object as before is not decoded again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[object, Any]] = {}
        self._before: dict[tuple[str, str], tuple[object, Any]] = {}

    def snapshot(
        self, document: Document, at: datetime, tick: int, events: Sequence[Event]
    ) -> ClusterSnapshot:
        """The snapshot that the document was made of; never raises."""
        self._before, self._known = self._known, {}
        balancer_node = document.get("balancer_node")
        balancer = None
        if "balancer" in document:
            balancer = self._same("balancer", "", document["balancer"], BalancerSample)
        nodes = {
            name: node
            for name, entry in pairs(document.get("nodes"))
            if (node := self._node(name, entry, table(document.get("gpus")).get(name))) is not None
        }
        if isinstance(balancer_node, str) and balancer_node in nodes:
            of = nodes[balancer_node]
            nodes[balancer_node] = replace(of, snapshot=replace(of.snapshot, balancer=balancer))
        workers = [
            worker
            for name, entry in pairs(document.get("workers"))
            if (worker := self._worker(name, table(entry), nodes)) is not None
        ]
        cluster = self._cluster(document.get("cluster"))
        declared = {node.name for node in cluster.nodes}
        return ClusterSnapshot(
            cluster=cluster,
            taken_at=at,
            tick=tick,
            nodes=tuple(node for node in nodes.values() if node.name in declared),
            gpus=tuple(
                gpu
                for node in nodes.values()
                for uuid, card in node.snapshot.gpus.items()
                if (gpu := _gpu(node, card, table(document["gpus"][node.name][uuid]))) is not None
            ),
            workers=tuple(workers),
            balancer_node=balancer_node if isinstance(balancer_node, str) else None,
            balancer=balancer,
            members=tuple(
                member
                for entry in listed(document.get("members"))
                if (member := read(MemberView, entry)) is not None
            ),
            totals=read(Totals, document.get("totals")) or Totals(),
            events=tuple(events),
            healthy=document.get("healthy") is True,
        )

    def _same(
        self,
        part: str,
        key: str,
        value: object,
        kind: type[Kind],
        make: Callable[[], Kind | None] | None = None,
    ) -> Kind | None:
        found = self._before.get((part, key))
        if found is None or found[0] is not value:
            found = (value, make() if make is not None else read(kind, value, key))
        self._known[part, key] = found
        return cast("Kind | None", found[1])

    def _cluster(self, entry: object) -> Cluster:
        cluster = self._same("cluster", "", entry, Cluster, lambda: _cluster(table(entry)))
        assert cluster is not None
        return cluster

    def _node(self, name: str, entry: object, gpus: object) -> NodeView | None:
        given = table(entry)
        own = {"age_seconds": None, **given, "name": name}
        rest = {key: item for key, item in given.items() if key != "models"}
        view = read(NodeView, {**own, "snapshot": {**rest, "name": name}})
        if view is None:
            return None
        units, cards, models = {}, {}, {}
        for unit, value in pairs(given.get("units")):
            state = self._same(f"unit {name}", unit, value, UnitState)
            if state is not None:
                units[unit] = state
        for uuid, value in pairs(gpus):
            card = self._same(f"gpu {name}", uuid, value, GpuSample)
            if card is not None:
                cards[uuid] = card
        for path, value in pairs(given.get("models")):
            file = self._same(f"model {name}", path, value, ModelFile)
            if file is not None:
                models[path] = file
        host = self._same("host", name, given.get("host"), HostSample) or HostSample()
        seen = replace(view.snapshot, host=host, units=units, gpus=cards, workers={}, models=models)
        return replace(view, snapshot=seen)

    def _worker(
        self, name: str, entry: Document, nodes: Mapping[str, NodeView]
    ) -> WorkerView | None:
        worker = self._same("worker", name, entry, WorkerView, lambda: _worker(name, entry))
        node = nodes.get(worker.node) if worker is not None else None
        if worker is None or node is None:
            return None
        unit = node.snapshot.units.get(worker.unit.name) or worker.unit
        node.snapshot.workers[unit.name] = worker.sample
        age = worker.age_seconds
        if age is None:
            age = node.age_of("workers", unit.name)
        mute = node.snapshot.ages.get(f"workers/{unit.name}")
        return replace(worker, unit=unit, age_seconds=age, silent_seconds=mute)


def read(kind: type[Kind], value: object, key: str = "") -> Kind | None:
    """`value` as a noun of the model, None where it cannot be one."""
    return cast("Kind | None", decode(kind, value, [], key=key or None))


def table(value: object) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def pairs(value: object) -> list[tuple[str, Any]]:
    """The keys and values of an object, none where it is anything else."""
    return list(value.items()) if isinstance(value, dict) else []


def listed(value: object) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def moment(value: object) -> datetime | None:
    """A time as RFC 3339 has it, in UTC; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def event(value: object) -> Event | None:
    """One event of a frame, None where it cannot be one."""
    given = table(value)
    at = moment(given.get("at"))
    found = read(_Told, given)
    if at is None or found is None:
        return None
    return Event(at, found.severity, found.text, found.node, found.worker)


def _cluster(given: Document) -> Cluster:
    nodes = [
        node
        for name, entry in pairs(given.get("nodes"))
        if (node := read(Node, {**table(entry), "name": name})) is not None
    ]
    interval = given.get("interval_seconds")
    return Cluster(
        name=given["name"] if isinstance(given.get("name"), str) else "recording",
        nodes=tuple(nodes),
        balancer=read(Balancer, given["balancer"]) if "balancer" in given else None,
        interval_seconds=float(interval) if isinstance(interval, int | float) else 1.0,
    )


def _gpu(node: NodeView, card: GpuSample, entry: Document) -> GpuView | None:
    view = read(GpuView, {**entry, "node": node.name, "sample": {"uuid": card.uuid}})
    if view is None:
        return None
    return replace(view, sample=card, age_seconds=node.age_of("gpus", card.uuid))


def _worker(name: str, entry: Document) -> WorkerView | None:
    unit = entry.get("unit")
    sample = dict(table(entry.get("sample")))
    sample["unit"] = unit
    if "slots" in sample:
        sample["slots"] = {key: _slot(table(slot)) for key, slot in pairs(sample["slots"])}
    worker = read(
        WorkerView,
        {
            **entry,
            "name": name,
            "unit": {**table(entry.get("unit_alone")), "name": unit},
            "sample": sample,
        },
    )
    if worker is None:
        return None
    slots = worker.sample.slots
    if slots is None:
        return worker
    busy = [slot for slot in slots if slot.busy]
    used = None
    if worker.slots_busy is not None:
        prompts = [slot.prompt_tokens for slot in busy if slot.prompt_tokens is not None]
        used = sum(prompts) if prompts or not busy else None
    return replace(
        worker,
        context_used_tokens=used,
        sample=replace(worker.sample, requests_processing=len(busy)),
    )


def _slot(given: Document) -> Document:
    slot = {"busy": False, **given}
    generated = given.get("generated_tokens", 0)
    asked, limit = given.get("asked_tokens"), given.get("limit_tokens")
    if isinstance(asked, int) and isinstance(generated, int):
        slot["prompt_tokens"] = asked + generated
    if isinstance(limit, int) and isinstance(generated, int):
        slot["remaining_tokens"] = limit - generated
    return slot

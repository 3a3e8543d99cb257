"""What is known of one node between ticks: names, cards, rates, all renewed with each document."""

from __future__ import annotations

from dataclasses import replace

from llamatop.collect.addresses import of_url
from llamatop.collect.membership import Endpoint
from llamatop.collect.names import short_names
from llamatop.collect.placement import Placement, place
from llamatop.collect.rates import RateMeter, Rates
from llamatop.model.cluster import GpuView, NodeView, Topology, WorkerView
from llamatop.model.declared import Node, Worker
from llamatop.model.observed import NodeSnapshot, UnitState, WorkerSample

STALE_TICKS = 3
_SPANNING: tuple[Topology, ...] = ("tensor-split", "layer-split", "shared")


class NodeState:
    """One node's snapshot with everything that follows from it alone."""

    def __init__(self, node: Node, interval_seconds: float) -> None:
        self.node = node
        self.snapshot = NodeSnapshot(name=node.name)
        self.names: dict[str, str] = {}
        self.endpoints: tuple[Endpoint, ...] = ()
        self._interval = interval_seconds
        self._declared: dict[str, Worker] = {worker.unit: worker for worker in node.workers}
        self._meters: dict[str, RateMeter] = {}
        self._rates: dict[str, Rates] = {}
        self._placements: dict[str, Placement] = {}
        self._identities: dict[str, tuple[str | None, float]] = {}

    def update(self, snapshot: NodeSnapshot) -> None:
        """Take a new snapshot; a document that came (and not a fault alone) renews the rates."""
        came = snapshot.received_at is not None and (
            snapshot.received_at != self.snapshot.received_at
        )
        self.snapshot = snapshot = self._with_declared(snapshot) if came else snapshot
        if not came:
            return
        if snapshot.workers.keys() != self.names.keys():
            self.names = short_names(self.node.name, snapshot.workers)
            for unit in self._meters.keys() - snapshot.workers.keys():
                del self._meters[unit]
        for unit, worker in snapshot.workers.items():
            meter = self._meters.get(unit)
            if meter is None:
                meter = self._meters[unit] = RateMeter()
            self._rates[unit] = meter.update(worker)
        self._placements = place(snapshot)
        self.endpoints = tuple(
            self._endpoint(unit, worker) for unit, worker in snapshot.workers.items()
        )

    def _with_declared(self, snapshot: NodeSnapshot) -> NodeSnapshot:
        """A declared worker that the node does not have is shown with what is wrong."""
        missing = self._declared.keys() - snapshot.workers.keys()
        if self.node.ssh is None or not missing:
            return snapshot
        workers = dict(snapshot.workers)
        for unit in sorted(missing):
            workers[unit] = WorkerSample(
                unit=unit,
                url=self._declared[unit].url,
                fault=f"there is no unit {unit} on {self.node.name} that runs a known engine",
            )
        return replace(snapshot, workers=workers)

    def _endpoint(self, unit: str, worker: WorkerSample) -> Endpoint:
        url = of_url(worker.url) if worker.url else None
        declared = self._declared.get(unit)
        return Endpoint(
            name=self.names[unit],
            node=self.node.name,
            port=url.port if url else worker.launch.port,
            member=declared.member if declared else None,
            alive=worker.health in ("ok", "busy", "loading"),
            identity=worker.identity,
            identity_since=self._since(unit, worker.identity),
        )

    def _since(self, unit: str, identity: str | None) -> float:
        before = self._identities.get(unit)
        if before is None or before[0] != identity:
            before = self._identities[unit] = (identity, self.snapshot.received_at or 0.0)
        return before[1]

    @property
    def rated(self) -> bool:
        """Whether each running worker was asked, and has a rate or is of a kind that tells none."""
        return all(
            worker.health is not None or not self._runs(unit)
            for unit, worker in self.snapshot.workers.items()
        ) and all(
            self._rates[unit].generation_tokens_per_second is not None
            for unit, worker in self.snapshot.workers.items()
            if worker.health == "ok"
            and not worker.sleeping
            and (worker.slots is not None or worker.counters.generation_tokens_total is not None)
        )

    def _runs(self, unit: str) -> bool:
        state = self.snapshot.units.get(unit)
        return state is not None and state.active_state == "active" and bool(state.main_pid)

    def view(self, now: float) -> NodeView:
        """The node as the person sees it at the monotonic moment `now`."""
        snapshot = self.snapshot
        age = (
            None if snapshot.received_at is None else round(max(0.0, now - snapshot.received_at), 3)
        )
        stale = age is None or age > STALE_TICKS * self._interval or not snapshot.reachable
        fault = _telling(snapshot)
        if fault is None and stale and age is not None:
            fault = f"nothing was heard of it for {age:.0f} s"
        return NodeView(
            name=self.node.name,
            snapshot=snapshot,
            reachable=snapshot.reachable,
            age_seconds=age,
            fault=fault,
            stale=stale,
        )

    def worker_views(self, view: NodeView) -> list[WorkerView]:
        """The node's workers, without membership, in the order of their names."""
        return [
            self._worker(unit, worker, view)
            for unit, worker in sorted(self.snapshot.workers.items(), key=self._order)
        ]

    def _order(self, item: tuple[str, WorkerSample]) -> str:
        return self.names.get(item[0], item[0])

    def _worker(self, unit: str, worker: WorkerSample, view: NodeView) -> WorkerView:
        age = _aged(view, "workers", unit)
        old = view.stale or age is None or age > STALE_TICKS * self._interval + 1
        rates = Rates() if old else self._rates.get(unit, Rates())
        placement = self._placements.get(unit, Placement())
        whole = _context(worker)
        if whole != worker.context_tokens:
            worker = replace(worker, context_tokens=whole)
        busy = total = context = None
        if not view.stale and worker.health not in (None, "unreachable"):
            busy, total, context = _slots(worker)
        return WorkerView(
            name=self.names.get(unit, f"{self.node.name}/{unit}"),
            node=self.node.name,
            unit=self.snapshot.units.get(unit) or _unknown_unit(self.node, unit),
            sample=worker,
            gpus=placement.gpus,
            gpus_source=placement.source,
            topology=placement.topology,
            generation_tokens_per_second=rates.generation_tokens_per_second,
            prompt_tokens_per_second=rates.prompt_tokens_per_second,
            generation_tokens_total=rates.generation_tokens_total,
            slots_busy=busy,
            slots_total=worker.slots_total if total is None else total,
            context_used_tokens=context,
            age_seconds=age,
        )

    def gpu_views(self, view: NodeView, workers: list[WorkerView]) -> list[GpuView]:
        """The node's cards in the order of their indices, with the workers on each."""
        on: dict[int, list[WorkerView]] = {}
        for worker in workers:
            for index in worker.gpus or ():
                on.setdefault(index, []).append(worker)
        cards = sorted(
            self.snapshot.gpus.values(),
            key=lambda gpu: (gpu.index is None, gpu.index or 0, gpu.uuid),
        )
        views = []
        for gpu in cards:
            here = on.get(gpu.index, []) if gpu.index is not None else []
            views.append(
                GpuView(
                    node=self.node.name,
                    sample=gpu,
                    workers=tuple(worker.name for worker in here),
                    mark=_mark([worker.topology for worker in here]),
                    age_seconds=_aged(view, "gpus", gpu.uuid),
                )
            )
        return views


def _telling(snapshot: NodeSnapshot) -> str | None:
    """The fault that says most of the node as a whole; those of one worker or card are not."""
    faults = dict(snapshot.faults)
    if any(gpu.source == "nvidia-smi" for gpu in snapshot.gpus.values()):
        # That NVML is missing matters little where nvidia-smi gives the figures.
        faults.pop("gpus", None)
    for part in ("node", "units", "workers", "gpus", "balancer", "host", "tunnels"):
        if part in faults:
            return faults[part]
    return next((text for part, text in faults.items() if "/" not in part), None)


def _aged(view: NodeView, part: str, key: str) -> float | None:
    if view.age_seconds is None:
        return None
    ages = view.snapshot.ages
    return view.age_seconds + max(ages.get(part, 0.0), ages.get(f"{part}/{key}", 0.0))


def _slots(worker: WorkerSample) -> tuple[int | None, int | None, int | None]:
    """Busy slots, all slots and the context that busy ones use; None where unknown."""
    if worker.slots is None:
        return worker.requests_processing, worker.slots_total, None
    busy = [slot for slot in worker.slots if slot.busy]
    used = [slot.prompt_tokens for slot in busy if slot.prompt_tokens is not None]
    total = worker.slots_total if worker.slots_total is not None else len(worker.slots)
    return len(busy), total, sum(used) if used or not busy else None


def _context(worker: WorkerSample) -> int | None:
    """The worker's whole context: a llama-server's own figure is that of one slot.

    Without --parallel the slots share one cache, and each reports the whole of it.
    """
    if worker.engine != "llama-server":
        return worker.context_tokens
    if worker.launch.context_tokens:
        return worker.launch.context_tokens
    slots = worker.slots_total or 1
    if worker.context_tokens is None or worker.launch.source is None:
        return worker.context_tokens
    return worker.context_tokens * (slots if worker.launch.parallel else 1)


def _unknown_unit(node: Node, unit: str) -> UnitState:
    return UnitState(name=unit, kind="worker", load_state=None if node.ssh is None else "not-found")


def _mark(topologies: list[Topology | None]) -> Topology | None:
    for topology in _SPANNING:
        if topology in topologies:
            return topology
    return next((topology for topology in topologies if topology is not None), None)

"""What is known of one node between ticks: names, cards, rates, all renewed with each document."""

from __future__ import annotations

from operator import attrgetter

from msgspec.structs import replace

from llamatop.collect.addresses import of_url
from llamatop.collect.membership import Endpoint
from llamatop.collect.names import short_names
from llamatop.collect.node_views import STALE_TICKS, NodeViews
from llamatop.collect.placement import Placement, place
from llamatop.collect.rates import RateMeter, Rates
from llamatop.model.cluster import NodeView
from llamatop.model.declared import Node, Worker
from llamatop.model.observed import NodeSnapshot, WorkerSample

# So much silence is told: one line that comes late is none.
SILENT_TICKS = 2
SILENT_SECONDS = 0.5

_card = attrgetter("index", "uuid", "processes")
_standing = attrgetter("health", "pids", "launch", "url", "identity", "loaded")


class NodeState:
    """One node's snapshot with everything that follows from it alone."""

    def __init__(self, node: Node, interval_seconds: float) -> None:
        self.node = node
        self.snapshot = NodeSnapshot(name=node.name)
        self.names: dict[str, str] = {}
        self.endpoints: tuple[Endpoint, ...] = ()
        self.views = NodeViews(node, interval_seconds)
        self._interval = interval_seconds
        self._declared: dict[str, Worker] = {worker.unit: worker for worker in node.workers}
        self._meters: dict[str, RateMeter] = {}
        self._rates: dict[str, Rates] = {}
        self._placements: dict[str, Placement] = {}
        self._settled_by: object = None
        self._identities: dict[str, tuple[str | None, float]] = {}
        self._ports: dict[str, tuple[str, int | None]] = {}
        self._queued_since: dict[str, float] = {}
        self._queued_at: dict[str, str | None] = {}

    def update(self, snapshot: NodeSnapshot) -> None:
        """Take a new snapshot; a document that came (and not a fault alone) renews the rates."""
        came = snapshot.received_at is not None and (
            snapshot.received_at != self.snapshot.received_at
        )
        before, now = self.snapshot.received_at, snapshot.received_at or 0.0
        self.snapshot = snapshot = self._with_declared(snapshot)
        self._name(snapshot)
        if not came:
            # What the cluster file declares is listed though its node was never read.
            if before is None:
                self._settle(snapshot)
            return
        if before is None or now - before > STALE_TICKS * self._interval:
            # What waited all the while is not known.
            self._queued_since.clear()
        for unit, worker in snapshot.workers.items():
            meter = self._meters.get(unit)
            if meter is None:
                meter = self._meters[unit] = RateMeter()
            self._rates[unit] = meter.update(worker)
            if not worker.requests_deferred or self._queued_at.get(unit) != worker.identity:
                self._queued_since.pop(unit, None)
            if worker.requests_deferred:
                self._queued_at[unit] = worker.identity
                self._queued_since.setdefault(unit, now)
        self._settle(snapshot)

    def _name(self, snapshot: NodeSnapshot) -> None:
        """Names for all workers, where others have come or gone; what is gone is forgotten."""
        if snapshot.workers.keys() == self.names.keys():
            return
        self.names = short_names(self.node.name, snapshot.workers)
        for known in (
            self._meters,
            self._rates,
            self._identities,
            self._ports,
            self._queued_since,
            self._queued_at,
        ):
            for unit in known.keys() - snapshot.workers.keys():
                del known[unit]
        self.views.keep(self.names.values())

    def _settle(self, snapshot: NodeSnapshot) -> None:
        """Where the workers run and what they are met at, again where what tells it has changed.

        What a line did not touch is the same object, so that this compares quickly.
        """
        cards = [_card(gpu) for gpu in snapshot.gpus.values()]
        workers = [_standing(worker) for worker in snapshot.workers.values()]
        told = (list(snapshot.workers), workers, cards, "gpus" in snapshot.faults)
        if told == self._settled_by:
            return
        self._settled_by = told
        self._placements = place(snapshot)
        endpoints = tuple(
            [self._endpoint(unit, worker) for unit, worker in snapshot.workers.items()]
        )
        if endpoints != self.endpoints:
            self.endpoints = endpoints

    def _with_declared(self, snapshot: NodeSnapshot) -> NodeSnapshot:
        """A declared worker that the node does not have, or may have, is shown with the cause."""
        missing = self._declared.keys() - snapshot.workers.keys()
        lost = snapshot.faults.get("node")
        unread = snapshot.received_at is None
        if self.node.ssh is None or not missing or (unread and lost is None):
            return snapshot
        fault = f"{self.node.name} was not read yet: {lost}"
        workers = dict(snapshot.workers)
        for unit in sorted(missing):
            workers[unit] = WorkerSample(
                unit=unit,
                url=self._declared[unit].url,
                fault=fault
                if unread
                else f"there is no unit {unit} on {self.node.name} that runs a known engine",
            )
        return replace(snapshot, workers=workers)

    def _endpoint(self, unit: str, worker: WorkerSample) -> Endpoint:
        declared = self._declared.get(unit)
        return Endpoint(
            name=self.names[unit],
            node=self.node.name,
            port=self._port(unit, worker),
            member=declared.member if declared else None,
            alive=worker.health in ("ok", "busy", "loading"),
            identity=worker.identity,
            identity_since=self._since(unit, worker.identity),
        )

    def _port(self, unit: str, worker: WorkerSample) -> int | None:
        known = self._ports.get(unit)
        if known is None or known[0] != worker.url:
            url = of_url(worker.url) if worker.url else None
            known = self._ports[unit] = (worker.url or "", url.port if url else None)
        return worker.launch.port if known[1] is None else known[1]

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
        """The node as the person sees it at the monotonic moment `now`; renews `views`."""
        snapshot = self.snapshot
        age = (
            None if snapshot.received_at is None else round(max(0.0, now - snapshot.received_at), 3)
        )
        limit = max(SILENT_TICKS * self._interval, SILENT_SECONDS)
        stale = age is None or age > limit or not snapshot.reachable
        fault = _telling(snapshot)
        if fault is None and stale and age is not None:
            fault = f"nothing was heard of it for {age:.0f} s"
        wait = (snapshot.next_try_at or now) - now
        view = NodeView(
            name=self.node.name,
            snapshot=snapshot,
            reachable=snapshot.reachable,
            age_seconds=age,
            fault=fault,
            stale=stale,
            next_try_seconds=wait if wait > 0 else None,
        )
        self.views.renew(view, self.names, self._rates, self._placements, self._queued_since)
        return view


def _telling(snapshot: NodeSnapshot) -> str | None:
    """The fault that says most of the node as a whole; those of one worker or card are not."""
    faults = dict(snapshot.faults)
    if "gpus" in faults and any(gpu.source == "nvidia-smi" for gpu in snapshot.gpus.values()):
        # That NVML is missing matters little where nvidia-smi gives the figures.
        faults.pop("gpus", None)
    if not faults:
        return None
    for part in ("node", "units", "workers", "gpus", "balancer", "host", "tunnels"):
        if part in faults:
            return faults[part]
    return next((text for part, text in faults.items() if "/" not in part), None)

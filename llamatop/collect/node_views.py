"""One node's workers and cards as the person sees them, renewed when there is news of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from llamatop.collect.placement import Placement
from llamatop.collect.rates import Rates
from llamatop.model.cluster import (
    GpuView,
    Membership,
    NodeView,
    Topology,
    WorkerView,
)
from llamatop.model.declared import Node
from llamatop.model.observed import GpuSample, NodeSnapshot, UnitState, WorkerSample

STALE_TICKS = 3
_SPANNING: tuple[Topology, ...] = ("tensor-split", "layer-split", "shared")
_NO_RATES = Rates()
_NO_PLACEMENT = Placement()


class Standing(Struct, frozen=True):
    """What the balancer makes of a worker; see `WorkerView`."""

    membership: Membership | None = None
    fault: str | None = None
    members: tuple[tuple[str, str], ...] = ()


NOWHERE = Standing()


class NodeViews(Struct):
    """The views of one node, in the order of names and indices.

    Between two documents they stay the same objects, however often they are asked for, until the
    node turns stale or `age_seconds` would be off by more than a quarter of a tick. `standings`
    are the balancer's last word, by worker, which new views begin with.
    """

    node: Node
    interval_seconds: float
    standings: dict[str, Standing] = field(default_factory=dict)
    workers: tuple[WorkerView, ...] = ()
    gpus: tuple[GpuView, ...] = ()
    _made_of: NodeSnapshot | None = None
    _made_stale: bool = False
    _made_age: float | None = None
    _stood: Mapping[str, Standing] | None = None
    _ordered_by: object = None
    _ordered: list[str] = field(default_factory=list)
    _laid_out_by: tuple[object, object, object] = (None, None, None)
    _layout: list[tuple[str, tuple[str, ...], Topology | None]] = field(default_factory=list)

    def renew(
        self,
        view: NodeView,
        names: Mapping[str, str],
        rates: Mapping[str, Rates],
        placements: Mapping[str, Placement],
        queued_since: Mapping[str, float],
    ) -> None:
        """Make the views again where the node's view gives cause to.

        `queued_since` is for each unit where requests wait since when, on this side's clock.
        `names` has every worker of the view; it and `placements` are other objects where anything
        in them is not as before.
        """
        age = view.age_seconds
        if (
            view.snapshot is self._made_of
            and view.stale == self._made_stale
            and (age is None or self._made_age is not None)
            and abs((age or 0.0) - (self._made_age or 0.0)) <= self.interval_seconds / 4
        ):
            return
        self._made_of, self._made_stale, self._made_age = view.snapshot, view.stale, age
        workers = view.snapshot.workers
        if names is not self._ordered_by:
            self._ordered_by, self._ordered = names, sorted(names, key=names.__getitem__)
        self.workers = tuple(
            self._worker(
                names[unit],
                unit,
                workers[unit],
                view,
                rates.get(unit, _NO_RATES),
                placements.get(unit, _NO_PLACEMENT),
                queued_since.get(unit),
            )
            for unit in self._ordered
        )
        self._lay_out(view.snapshot.gpus, names, placements)
        self.gpus = tuple(self._gpus(view))

    def keep(self, names: Iterable[str]) -> None:
        """Forget the standings of all other workers."""
        for name in self.standings.keys() - set(names):
            del self.standings[name]
        self._stood = None

    def stand(self, workers: Mapping[str, Standing]) -> None:
        """Take what the balancer makes of each worker; views made later begin with it."""
        if workers is self._stood:
            return
        self._stood = workers
        views = self.workers
        for place, worker in enumerate(views):
            standing = workers.get(worker.name, NOWHERE)
            known = self.standings.get(worker.name, NOWHERE)
            if standing is not known and standing != known:
                self.standings[worker.name] = standing
                changed = replace(
                    worker,
                    membership=standing.membership,
                    membership_fault=standing.fault,
                    members=standing.members,
                )
                self.workers = (*self.workers[:place], changed, *self.workers[place + 1 :])

    def _worker(
        self,
        name: str,
        unit: str,
        worker: WorkerSample,
        view: NodeView,
        rates: Rates,
        placement: Placement,
        queued_since: float | None,
    ) -> WorkerView:
        age = view.age_of("workers", unit) if view.snapshot.ages else view.age_seconds
        if view.stale or age is None or age > STALE_TICKS * self.interval_seconds + 1:
            rates = _NO_RATES
        busy = total = context = None
        if not view.stale and worker.health not in (None, "unreachable"):
            busy, total, context = _slots(worker)
        standing = self.standings.get(name, NOWHERE)
        return WorkerView(
            name=name,
            node=self.node.name,
            unit=view.snapshot.units.get(unit) or _unknown_unit(self.node, unit),
            sample=worker,
            gpus=placement.gpus,
            gpus_source=placement.source,
            topology=placement.topology,
            membership=standing.membership,
            members=standing.members,
            membership_fault=standing.fault,
            generation_tokens_per_second=rates.generation_tokens_per_second,
            prompt_tokens_per_second=rates.prompt_tokens_per_second,
            generation_tokens_total=rates.generation_tokens_total,
            slots_busy=busy,
            slots_total=worker.slots_total if total is None else total,
            context_used_tokens=context,
            age_seconds=age,
            hints=(),
            spilled_percent=None,
            queued_seconds=_waited(view, queued_since),
            silent_seconds=view.snapshot.ages.get(f"workers/{unit}"),
        )

    def _gpus(self, view: NodeView) -> list[GpuView]:
        """Cards with the workers on each; one that shows the same as before is the same object."""
        cards = view.snapshot.gpus
        aged = bool(view.snapshot.ages)
        before = self.gpus if len(self.gpus) == len(self._layout) else None
        views = []
        for number, (uuid, names, mark) in enumerate(self._layout):
            gpu = cards[uuid]
            age = view.age_of("gpus", gpu.uuid) if aged else view.age_seconds
            was = before[number] if before is not None else None
            if (
                was is not None
                and was.sample is gpu
                and was.workers == names
                and was.mark == mark
                and age is not None
                and was.age_seconds is not None
                and abs(age - was.age_seconds) <= self.interval_seconds / 4
            ):
                views.append(was)
            else:
                views.append(GpuView(self.node.name, gpu, names, mark, age))
        return views

    def _lay_out(
        self,
        cards: Mapping[str, GpuSample],
        names: Mapping[str, str],
        placements: Mapping[str, Placement],
    ) -> None:
        """The cards in their order, each with who is on it; again where that has changed."""
        on_cards = [(gpu.uuid, gpu.index) for gpu in cards.values()]
        named, placed, were = self._laid_out_by
        if names is named and placements is placed and on_cards == were:
            return
        self._laid_out_by = names, placements, on_cards
        on: dict[int, list[WorkerView]] = {}
        for worker in self.workers:
            for index in worker.gpus or ():
                on.setdefault(index, []).append(worker)
        ordered = sorted(
            cards.items(),
            key=lambda card: (card[1].index is None, card[1].index or 0, card[1].uuid),
        )
        self._layout = []
        for uuid, gpu in ordered:
            here = on.get(gpu.index, []) if gpu.index is not None else []
            mark = _mark([worker.topology for worker in here])
            self._layout.append((uuid, tuple([worker.name for worker in here]), mark))


def _waited(view: NodeView, since: float | None) -> float | None:
    at = view.snapshot.received_at
    return None if since is None or at is None or view.stale else round(at - since, 1)


def _slots(worker: WorkerSample) -> tuple[int | None, int | None, int | None]:
    """Busy slots, all slots and the context that busy ones use; None where unknown."""
    if worker.slots is None:
        most = worker.slots_total
        if worker.engine == "vllm" and worker.launch.parallel:
            # --max-num-seqs is each engine's
            most = worker.launch.parallel * max(1, len(worker.engines))
        return worker.requests_processing, most, None
    busy = used = known = 0
    for slot in worker.slots:
        if slot.busy:
            busy += 1
            if slot.prompt_tokens is not None:
                known += 1
                used += slot.prompt_tokens
    total = worker.slots_total if worker.slots_total is not None else len(worker.slots)
    return busy, total, used if known or not busy else None


def _unknown_unit(node: Node, unit: str) -> UnitState:
    return UnitState(name=unit, kind="worker", load_state=None if node.ssh is None else "not-found")


def _mark(topologies: list[Topology | None]) -> Topology | None:
    for topology in _SPANNING:
        if topology in topologies:
            return topology
    return next((topology for topology in topologies if topology is not None), None)

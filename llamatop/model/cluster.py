"""The whole cluster at one moment: nodes joined with workers, GPUs, rates and membership."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from .declared import Cluster
from .observed import BalancerSample, GpuSample, LoadedModel, NodeSnapshot, UnitState, WorkerSample

Topology = Literal["per-gpu", "layer-split", "tensor-split", "shared", "cpu"]
Membership = Literal["in", "down", "absent", "draining", "mixed"]
Severity = Literal["info", "warning", "error"]


class WorkerView(Struct, frozen=True):
    """One worker as the person sees it; `name` is `node/short`, as CLI.md defines it.

    Rates are tokens per second, None until two reads exist. `gpus` are indices on its node and
    `gpus_source` says how they are known. `members` are its server lines as (upstream, address),
    empty where none is certain. `membership` is None without a balancer or a certain member.
    `hints` are sentences about what is probably not meant, though nothing is broken;
    `spilled_percent` is how much of an Ollama's models the CPU computes though its node has cards.
    `queued_seconds` is for how long requests have waited there without a pause, None where none do.
    `silent_seconds` is for how long it had told nothing when its node was last heard, None where it
    tells; it is part of `age_seconds`.
    """

    name: str
    node: str
    unit: UnitState
    sample: WorkerSample
    gpus: tuple[int, ...] | None = None
    gpus_source: Literal["nvml", "environment"] | None = None
    topology: Topology | None = None
    membership: Membership | None = None
    members: tuple[tuple[str, str], ...] = ()
    membership_fault: str | None = None
    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    generation_tokens_total: float | None = None
    slots_busy: int | None = None
    slots_total: int | None = None
    context_used_tokens: int | None = None
    age_seconds: float | None = None
    hints: tuple[str, ...] = ()
    spilled_percent: float | None = None
    queued_seconds: float | None = None
    silent_seconds: float | None = None

    def expires_in_seconds(self, model: LoadedModel) -> float | None:
        """Until Ollama unloads the model if nobody asks for it; None where never or unknown."""
        if model.expires_at_seconds is None or self.sample.read_at_seconds is None:
            return None
        left = model.expires_at_seconds - self.sample.read_at_seconds
        return left - (self.age_seconds or 0.0)

    @property
    def fault(self) -> str | None:
        """The worker's own fault, else its unit's, else what makes its membership uncertain."""
        return self.sample.fault or self.unit_fault or self.membership_fault

    @property
    def unit_fault(self) -> str | None:
        """Why its unit does not run though it should, in systemd's words."""
        unit = self.unit
        looping = (unit.sub_state or "").startswith("auto-restart")
        if not looping and unit.active_state != "failed":
            return None
        last = f", last result {unit.result}" if unit.result not in (None, "success") else ""
        if looping:
            rounds = f", {unit.restarts} times so far" if unit.restarts else ""
            return f"it dies and systemd starts it again{rounds}{last}"
        return f"its unit failed{last}"


class GpuView(Struct, frozen=True):
    """One card with the workers on it; `mark` is "layer-split" where one of them spans cards."""

    node: str
    sample: GpuSample
    workers: tuple[str, ...] = ()
    mark: Topology | None = None
    age_seconds: float | None = None


class MemberView(Struct, frozen=True):
    """One server line with the worker behind it, None where that is not certain.

    `expected` is the worker that its tunnel or address names, where `worker` is another: the one
    that was found to answer there.
    """

    upstream: str
    address: str
    state: Membership
    worker: str | None = None
    weight: int | None = None
    expected: str | None = None


class Event(Struct, frozen=True):
    """Something that happened, for the events panel and `status --json`."""

    at: datetime
    severity: Severity
    text: str
    node: str | None = None
    worker: str | None = None


NO_SUDO = "there is no sudo"


class Rights(Struct, frozen=True):
    """What may be done as root of the `needed` commands that plans would run on a node.

    `lacking` are those that may not, each as one would type it; `why` is what refuses them, NO_SUDO
    where there is none to ask.
    """

    needed: int
    lacking: tuple[str, ...] = ()
    why: str = ""


class NodeView(Struct, frozen=True):
    """One node: its latest snapshot, its age here in seconds, and its one most telling fault.

    `next_try_seconds` is how long until another attempt to reach it begins, None where none is
    being waited for. `rights` is None where nobody looked: no tick does.
    """

    name: str
    snapshot: NodeSnapshot
    reachable: bool
    age_seconds: float | None
    fault: str | None = None
    stale: bool = False
    next_try_seconds: float | None = None
    rights: Rights | None = None

    def age_of(self, part: str, key: str) -> float | None:
        """Age in seconds of one card (`"gpus"`, its uuid) or worker (`"workers"`, its unit).

        None where the node was never heard.
        """
        if self.age_seconds is None:
            return None
        ages = self.snapshot.ages
        if not ages:
            return self.age_seconds
        return self.age_seconds + max(ages.get(part, 0.0), ages.get(f"{part}/{key}", 0.0))


class Totals(Struct, frozen=True):
    """Sums over the workers that are known; None where none is."""

    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    slots_busy: int | None = None
    slots_total: int | None = None
    requests_deferred: int | None = None


class ClusterSnapshot(Struct, frozen=True):
    """One moment of the cluster; everything the screen and `status --json` show is in here."""

    cluster: Cluster
    taken_at: datetime
    tick: int
    nodes: tuple[NodeView, ...] = ()
    gpus: tuple[GpuView, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    balancer_node: str | None = None
    balancer: BalancerSample | None = None
    members: tuple[MemberView, ...] = ()
    totals: Totals = field(default_factory=Totals)
    events: tuple[Event, ...] = ()
    healthy: bool = False

    def node(self, name: str) -> NodeView:
        """The node called `name`; raises KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def worker(self, name: str) -> WorkerView:
        """The worker called `name` (`node/short`); raises KeyError where there is none."""
        for worker in self.workers:
            if worker.name == name:
                return worker
        raise KeyError(name)

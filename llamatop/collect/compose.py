"""Everything that is known of a cluster, joined into one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import chain
from typing import Protocol

from msgspec.structs import replace

from llamatop.collect import leftovers, resolve
from llamatop.collect.balance import Balance, Balancing
from llamatop.collect.events import EventLog
from llamatop.collect.health import healthy, totals
from llamatop.collect.hints import Hints
from llamatop.collect.membership import Endpoint, Roads
from llamatop.collect.node_state import NodeState
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Cluster
from llamatop.model.observed import NodeSnapshot


class Link(Protocol):
    """What a node is read by: `NodeLink`, or `HttpLink` where there is no ssh."""

    documents: int
    attempts_failed: int
    pending: tuple[str, ...]
    identities: dict[str, tuple[str, float]]

    async def run(self) -> None:
        """Connect, read, wait, connect again; until cancelled."""

    def hurry(self) -> None:
        """Try again now if a retry is being waited for."""

    def ask_members(self, addresses: tuple[str, ...]) -> None:
        """Have the node ask who answers behind these member addresses."""

    async def refresh(self) -> NodeSnapshot:
        """A snapshot that was taken after this call; raises Unreachable where none comes."""


class Composer:
    """Takes each node's snapshots as they come and makes one of the cluster from them.

    What a node's document changes is worked out when it comes, what joins the nodes when a
    snapshot is composed; views of what did not change are the same objects as before.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self.states = {
            node.name: NodeState(node, cluster.interval_seconds) for node in cluster.nodes
        }
        self.events = EventLog(now)
        self.searching = cluster.balancer is None and cluster.path is None
        self._balancing = Balancing(cluster.balancer, self.searching)
        self._addresses: Mapping[str, frozenset[str]] = {
            node.name: resolve.names(node) for node in cluster.nodes
        }
        self._endpoints: tuple[Endpoint, ...] = ()
        self._endpoints_of: list[tuple[Endpoint, ...]] = []
        self._balancer_node = ""
        self._hints = Hints()
        self._left: tuple[leftovers.Leftover, ...] = ()
        self._tick = 0

    def nothing(self, clock: float) -> ClusterSnapshot:
        """The snapshot before anything was heard."""
        nodes = tuple(state.view(clock) for state in self.states.values())
        return ClusterSnapshot(self._cluster, self._now(), 0, nodes)

    def called(self, node: str, names: frozenset[str]) -> None:
        """Learn the names and addresses that a node goes by."""
        self._addresses = {**self._addresses, node: names}

    def take(self, snapshot: NodeSnapshot) -> bool:
        """Take a node's next snapshot; True where it holds what should be shown at once."""
        state = self.states[snapshot.name]
        before = state.snapshot
        state.update(snapshot)
        told = self.events.compare(before, state.snapshot, state.names)
        return told or before.reachable != snapshot.reachable

    def compose(
        self, links: Mapping[str, Link], *, tick: bool, whole: bool, clock: float
    ) -> ClusterSnapshot:
        """The snapshot of this moment; `whole` tells that every node has been read or cannot be.

        A link of the balancer's node is told which members to ask.
        """
        self._tick += tick
        states = self.states.values()
        nodes = tuple([state.view(clock) for state in states])
        samples = {
            node.name: node.snapshot.balancer
            for node in nodes
            if node.snapshot.balancer is not None
        }
        balance = self._balancing.join(
            samples,
            self._all_endpoints(),
            self._roads(links),
            [worker for state in states for worker in state.views.workers],
        )
        for state in states:
            state.views.stand(balance.standings)
        self._tell(balance, whole)
        balancer = balance.balancer
        if balancer is not None and balance.sample is not None and balancer.node in links:
            links[balancer.node].ask_members(balance.ask)
        self._balancer_node = balancer.node if balancer is not None else ""
        cluster = self._cluster
        if self.searching and balancer is not None:
            cluster = replace(cluster, balancer=balancer)
        gpus = tuple(chain.from_iterable(state.views.gpus for state in states))
        workers = tuple(chain.from_iterable(state.views.workers for state in states))
        workers = self._hints.add(workers, gpus)
        return ClusterSnapshot(
            cluster=cluster,
            taken_at=self._now(),
            tick=self._tick,
            nodes=nodes,
            gpus=gpus,
            workers=workers,
            balancer_node=self._balancer_node or None,
            balancer=balance.sample,
            members=balance.members,
            totals=totals(workers),
            events=self.events.events,
            healthy=healthy(nodes, gpus, workers, balance.sample),
        )

    def _tell(self, balance: Balance, whole: bool) -> None:
        """What is new about the members."""
        if balance.balancer is None or balance.sample is None:
            return
        node = balance.balancer.node
        if balance.sample.members is not None:
            self.events.take_members(node, balance.members, balance.sample.members)
        # Told once, by the name that the member has when all nodes have been read.
        if whole:
            left = leftovers.find(balance.sample, balance.members)
            self.events.compare_left(node, self._left, left)
            self._left = left

    def _all_endpoints(self) -> tuple[Endpoint, ...]:
        """Every node's, the same object while none has changed."""
        found = [state.endpoints for state in self.states.values()]
        known = self._endpoints_of
        if len(found) != len(known) or any(
            one is not was for one, was in zip(found, known, strict=True)
        ):
            self._endpoints_of = found
            self._endpoints = tuple(chain.from_iterable(found))
        return self._endpoints

    def _roads(self, links: Mapping[str, Link]) -> Roads:
        tunnels = {
            name: state.snapshot.tunnels
            for name, state in self.states.items()
            if state.snapshot.tunnels
        }
        balancer = links.get(self._balancer_node)
        return Roads(tunnels, self._addresses, dict(balancer.identities) if balancer else {})

"""The balancer's part of a snapshot: which node it is, its members, and each worker's standing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from llamatop.collect.membership import (
    Endpoint,
    Matching,
    Roads,
    comparable,
    leading_upstream,
    match,
    membership,
    state_of,
)
from llamatop.collect.node_views import Standing
from llamatop.model.cluster import Membership, MemberView, WorkerView
from llamatop.model.declared import Balancer
from llamatop.model.observed import BalancerSample, UpstreamMember


class Balance(Struct, frozen=True):
    """The balancer with its members; all empty where there is none or it is not known.

    `standings` are the workers', by name. `ask` are the member addresses behind which the
    balancer's node should ask who answers.
    """

    balancer: Balancer | None = None
    sample: BalancerSample | None = None
    members: tuple[MemberView, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    ask: tuple[str, ...] = ()


class Balancing(Struct):
    """Finds the balancer and joins it with the workers; what did not change is not joined again.

    `declared` is the cluster file's; `searching` whether any node may be it (HOST… alone).
    """

    declared: Balancer | None
    searching: bool
    _inputs: dict[str, object] = field(default_factory=dict)
    _matchings: dict[str, Matching] = field(default_factory=dict)
    _joined_by: tuple[object, ...] = ()
    _joined: Balance = field(default_factory=Balance)

    def join(
        self,
        samples: Mapping[str, BalancerSample],
        endpoints: tuple[Endpoint, ...],
        roads: Roads,
        workers: Sequence[WorkerView],
    ) -> Balance:
        """The balance of this moment; `samples` are the nodes' that run nginx, by node."""
        if self.declared is not None:
            sample = samples.get(self.declared.node)
            if sample is None or sample.members is None:
                return Balance(self.declared, sample)
            unread = sample.fault
            if unread is None and (fault := _misnamed(self.declared, sample.members)):
                sample = replace(sample, fault=fault)
            return self._join(self.declared, sample, endpoints, roads, workers, unread)
        if not self.searching:
            return Balance()
        best: tuple[int, str, str] | None = None
        for node, sample in samples.items():
            matching = self._match(node, sample.members or (), endpoints, roads)
            leading = leading_upstream(sample.members or (), matching.worker_of)
            if leading is not None and (best is None or leading[1] > best[0]):
                best = (leading[1], node, leading[0])
        if best is None:
            return Balance()
        _, node, upstream = best
        sample = samples[node]
        balancer = Balancer(node=node, upstream=upstream, kind=sample.kind)
        return self._join(balancer, sample, endpoints, roads, workers, sample.fault)

    def _match(
        self,
        node: str,
        members: tuple[UpstreamMember, ...],
        endpoints: tuple[Endpoint, ...],
        roads: Roads,
    ) -> Matching:
        inputs = (members, endpoints, roads)
        if self._inputs.get(node) != inputs:
            self._inputs[node] = inputs
            addresses = [member.address for member in members]
            self._matchings[node] = match(node, addresses, endpoints, roads)
        return self._matchings[node]

    def _join(
        self,
        balancer: Balancer,
        sample: BalancerSample,
        endpoints: tuple[Endpoint, ...],
        roads: Roads,
        workers: Sequence[WorkerView],
        unread: str | None,
    ) -> Balance:
        """`unread` says which of nginx's files is not known: a worker may stand in that one."""
        members = sample.members or ()
        matching = self._match(balancer.node, members, endpoints, roads)
        busy = _serving(sample, members, matching, workers)
        # A matching is made anew whenever a member, a worker or a road to one changes.
        made_by = (balancer, matching, busy, unread)
        known = self._joined_by
        if not known or known[1] is not matching or known != made_by:
            self._joined_by = made_by
            self._joined = _joined(balancer, members, matching, busy, endpoints, roads, unread)
        return replace(self._joined, sample=sample)


def _serving(
    sample: BalancerSample,
    members: Sequence[UpstreamMember],
    matching: Matching,
    workers: Sequence[WorkerView],
) -> frozenset[str]:
    """The addresses that are down with requests still running: on the worker, or in old nginx."""
    down = {member.address for member in members if member.down}
    if not down:
        return frozenset()
    draining = sample.draining_connections or {}
    busy = {
        worker.name for worker in workers if worker.slots_busy or worker.sample.requests_processing
    }
    return frozenset(
        address
        for address in down
        if draining.get(address) or matching.worker_of.get(address) in busy
    )


def _joined(
    balancer: Balancer,
    members: Sequence[UpstreamMember],
    matching: Matching,
    busy: frozenset[str],
    endpoints: Sequence[Endpoint],
    roads: Roads,
    unread: str | None,
) -> Balance:
    worker_of = matching.worker_of
    ours = {balancer.upstream} | {
        member.upstream for member in members if worker_of.get(member.address) is not None
    }
    known = {endpoint.name for endpoint in endpoints}
    lines: dict[str, list[MemberView]] = {}
    views = []
    for member in members:
        if member.upstream not in ours:
            continue
        name = worker_of.get(member.address)
        view = MemberView(
            upstream=member.upstream,
            address=member.address,
            state=state_of(member, member.address in busy),
            worker=name,
            weight=member.weight if member.weight is not None else 1,
            expected=matching.astray.get(member.address),
        )
        views.append(view)
        if name in known:
            lines.setdefault(name, []).append(view)
    near = {member.address for member in members if member.upstream in ours}
    standings = {
        name: _standing(name, lines.get(name, []), matching, near, unread) for name in known
    }
    balance = Balance(balancer, None, tuple(views), standings)
    return replace(balance, ask=to_ask(balance, matching, endpoints, roads))


def to_ask(
    balance: Balance, matching: Matching, endpoints: Sequence[Endpoint], roads: Roads
) -> tuple[str, ...]:
    """The addresses not yet confirmed: in doubt, or by way of another node and not yet asked.

    Once an answer agrees with what the worker's own node says, it is not asked again.
    """
    if balance.balancer is None:
        return ()
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    doubtful = {address for addresses in matching.doubts.values() for address in addresses}
    wanted = []
    for member in balance.members:
        worker = by_name.get(member.worker) if member.worker is not None else None
        if worker is None:
            if member.address in doubtful:
                wanted.append(member.address)
        elif worker.member is None and worker.node != balance.balancer.node:
            seen = roads.identities.get(member.address, (None, 0.0))[0]
            if comparable(worker.identity) and seen != worker.identity:
                wanted.append(member.address)
    return tuple(dict.fromkeys(wanted))


def _misnamed(declared: Balancer, members: Sequence[UpstreamMember]) -> str | None:
    names = dict.fromkeys(member.upstream for member in members)
    if declared.upstream in names:
        return None
    return (
        f"nginx has no upstream {declared.upstream!r}; correct balancer.upstream in the cluster"
        f" file; it has: {', '.join(names) or 'none'}"
    )


def _standing(
    name: str,
    lines: Sequence[MemberView],
    matching: Matching,
    near: set[str],
    unread: str | None,
) -> Standing:
    state: Membership | None = membership([line.state for line in lines])
    fault = None
    if not lines and near.intersection(matching.doubts.get(name, ())):
        state = None
        fault = matching.fault(name)
    elif not lines and unread is not None:
        state = None
        fault = f"it is not known whether {name} is a member: {unread}"
    return Standing(state, fault, tuple((line.upstream, line.address) for line in lines))

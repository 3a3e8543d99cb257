"""The balancer's part of a snapshot: which node it is, its members, and each worker's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from llamatop.model.cluster import Membership, MemberView, WorkerView
from llamatop.model.declared import Balancer
from llamatop.model.observed import BalancerSample, UpstreamMember


@dataclass(frozen=True, slots=True)
class Balance:
    """The balancer with its members; all empty where there is none or it is not known.

    `ask` are the member addresses behind which the balancer's node should ask who answers.
    """

    balancer: Balancer | None = None
    sample: BalancerSample | None = None
    members: tuple[MemberView, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    ask: tuple[str, ...] = ()


@dataclass(slots=True)
class Balancing:
    """Finds the balancer and joins it with the workers; what did not change is not matched again.

    `declared` is the cluster file's; `searching` whether any node may be it (HOST… alone).
    """

    declared: Balancer | None
    searching: bool
    _inputs: dict[str, object] = field(default_factory=dict)
    _matchings: dict[str, Matching] = field(default_factory=dict)

    def join(
        self,
        samples: Mapping[str, BalancerSample],
        endpoints: Sequence[Endpoint],
        roads: Roads,
        workers: Sequence[WorkerView],
    ) -> Balance:
        """The balance of this moment; `samples` are the nodes' that run nginx, by node."""
        if self.declared is not None:
            sample = samples.get(self.declared.node)
            if sample is None or sample.members is None:
                return Balance(self.declared, sample, (), tuple(workers))
            matching = self._match(self.declared.node, sample.members, endpoints, roads)
            unread = sample.fault
            sample = replace(sample, fault=sample.fault or _misnamed(self.declared, sample.members))
            balance = self._joined(
                self.declared, sample, sample.members or (), matching, workers, unread
            )
            return replace(balance, ask=to_ask(balance, matching, endpoints, roads))
        if not self.searching:
            return Balance(workers=tuple(workers))
        best: tuple[int, str, str] | None = None
        for node, sample in samples.items():
            matching = self._match(node, sample.members or (), endpoints, roads)
            leading = leading_upstream(sample.members or (), matching.worker_of)
            if leading is not None and (best is None or leading[1] > best[0]):
                best = (leading[1], node, leading[0])
        if best is None:
            return Balance(workers=tuple(workers))
        _, node, upstream = best
        sample = samples[node]
        balance = self._joined(
            Balancer(node=node, upstream=upstream, kind=sample.kind),
            sample,
            sample.members or (),
            self._matchings[node],
            workers,
            sample.fault,
        )
        return replace(balance, ask=to_ask(balance, self._matchings[node], endpoints, roads))

    def _match(
        self,
        node: str,
        members: tuple[UpstreamMember, ...],
        endpoints: Sequence[Endpoint],
        roads: Roads,
    ) -> Matching:
        inputs = (members, tuple(endpoints), roads)
        if self._inputs.get(node) != inputs:
            self._inputs[node] = inputs
            addresses = [member.address for member in members]
            self._matchings[node] = match(node, addresses, endpoints, roads)
        return self._matchings[node]

    @staticmethod
    def _joined(
        balancer: Balancer,
        sample: BalancerSample,
        members: tuple[UpstreamMember, ...],
        matching: Matching,
        workers: Sequence[WorkerView],
        unread: str | None,
    ) -> Balance:
        """`unread` says which of nginx's files is not known: a worker may stand in that one."""
        worker_of = matching.worker_of
        ours = {balancer.upstream} | {
            member.upstream for member in members if worker_of.get(member.address) is not None
        }
        by_name = {worker.name: worker for worker in workers}
        lines: dict[str, list[MemberView]] = {}
        views = []
        for member in members:
            if member.upstream not in ours:
                continue
            name = worker_of.get(member.address)
            worker = by_name.get(name) if name is not None else None
            view = MemberView(
                upstream=member.upstream,
                address=member.address,
                state=state_of(member, _serves(sample, member.address, worker)),
                worker=name,
                weight=member.weight if member.weight is not None else 1,
            )
            views.append(view)
            if name is not None:
                lines.setdefault(name, []).append(view)
        near = {member.address for member in members if member.upstream in ours}
        joined = [
            _worker(worker, lines.get(worker.name, []), matching, near, unread)
            for worker in workers
        ]
        return Balance(balancer, sample, tuple(views), tuple(joined))


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


def _serves(sample: BalancerSample, address: str, worker: WorkerView | None) -> bool:
    """Whether requests still run behind a member: on the worker, or in an old nginx process."""
    if (sample.draining_connections or {}).get(address):
        return True
    if worker is None:
        return False
    return bool(worker.slots_busy) or bool(worker.sample.requests_processing)


def _worker(
    worker: WorkerView,
    lines: Sequence[MemberView],
    matching: Matching,
    near: set[str],
    unread: str | None,
) -> WorkerView:
    state: Membership | None = membership([line.state for line in lines])
    fault = None
    if not lines and near.intersection(matching.doubts.get(worker.name, ())):
        state = None
        fault = matching.fault(worker.name)
    elif not lines and unread is not None:
        state = None
        fault = f"it is not known whether {worker.name} is a member: {unread}"
    return replace(
        worker,
        membership=state,
        membership_fault=fault,
        members=tuple((line.upstream, line.address) for line in lines),
    )

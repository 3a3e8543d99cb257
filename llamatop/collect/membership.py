"""Which server line of the balancer leads to which worker, and what that makes of the worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from llamatop.collect.addresses import Address, node_of, parse, ssh_host
from llamatop.model.cluster import Membership
from llamatop.model.observed import Tunnel, UpstreamMember

NGINX_PORT = 80
# A worker that has just been restarted shows its new identity here and there at different moments.
SETTLE_SECONDS = 5.0
_MOST_HOPS = 4


class Endpoint(Struct, frozen=True):
    """A worker as the balancer may meet it: its name, its node and the port it listens on there.

    `member` is what the cluster file declares; `alive` whether it answers now; `identity` changes
    with every start of its process, and was first seen at the moment `identity_since`.
    """

    name: str
    node: str
    port: int | None = None
    member: str | None = None
    alive: bool = False
    identity: str | None = None
    identity_since: float = 0.0


class Roads(Struct, frozen=True):
    """What leads from address to node: each node's tunnels, and its names and addresses.

    `identities` are what was read through member addresses, each with the moment of the reading.
    """

    tunnels: Mapping[str, tuple[Tunnel, ...]] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    identities: Mapping[str, tuple[str, float]] = field(default_factory=dict)


class Matching(Struct, frozen=True):
    """Each member address with its worker's name, None where that is not certain.

    `doubts` holds, for a worker without a certain member, the addresses that may be its own;
    `missed`, by address, the node and the port that the way leads to, where certainly no worker is.
    `astray` holds, by address, the worker that the way there leads to where another answers.
    """

    worker_of: Mapping[str, str | None] = field(default_factory=dict)
    doubts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missed: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    astray: Mapping[str, str] = field(default_factory=dict)

    def fault(self, worker: str) -> str | None:
        """Why the worker's membership is not certain and what to do; the same for its neighbours.

        None where it is certain.
        """
        addresses = self.doubts.get(worker)
        if not addresses:
            return None
        node = worker.partition("/")[0]
        missed = [self.missed[one] for one in addresses if one in self.missed]
        if len(missed) == len(addresses) and all(end == node for end, _ in missed):
            others = f", and {len(addresses) - 1} more such" if len(addresses) > 1 else ""
            return (
                f"no server line leads here: {addresses[0]} leads to port {missed[0][1]} of {node}"
                f"{others}, where no worker listens; correct the tunnel's unit, then restart it"
            )
        return (
            f"it is not certain which server line leads here (perhaps "
            f'{" or ".join(addresses[:3])}); write member = "ADDRESS" under its [[node.worker]]'
            " in a cluster file"
        )


def match(
    balancer_node: str,
    addresses: Iterable[str],
    workers: Sequence[Endpoint],
    roads: Roads,
) -> Matching:
    """Join the balancer's member addresses with the workers, in the order CLI.md gives.

    Declared member, else tunnel, else address; where an identity was read through the member it
    settles a doubt and unsettles a wrong guess.
    """
    by_place: dict[tuple[str, int], list[Endpoint]] = {}
    by_identity: dict[str, list[Endpoint]] = {}
    declared: dict[Address | str, list[Endpoint]] = {}
    portless = {worker.node for worker in workers if worker.port is None}
    for worker in workers:
        if worker.member is not None:
            declared.setdefault(_key(worker.member), []).append(worker)
        if worker.port is not None:
            by_place.setdefault((worker.node, worker.port), []).append(worker)
        if worker.identity is not None:
            by_identity.setdefault(worker.identity, []).append(worker)
    forwards = _Forwards(roads)

    worker_of: dict[str, str | None] = {}
    open_ends: dict[str, frozenset[int]] = {}
    missed: dict[str, tuple[str, int]] = {}
    astray: dict[str, str] = {}
    for address in dict.fromkeys(addresses):
        named = declared.get(_key(address), [])
        if named:
            worker_of[address] = named[0].name if len(named) == 1 else None
            continue
        target = parse(address, NGINX_PORT)
        ends: set[tuple[str, int]] = set()
        ports: set[int] = set()
        if target is not None:
            forwards.follow(balancer_node, target, ends, ports)
        found = [
            worker for end in ends for worker in by_place.get(end, []) if worker.member is None
        ]
        if len(found) > 1 and len(ends) == 1:
            found = [worker for worker in found if worker.alive] or found
        if len(ends) > 1 and len({worker.name for worker in found}) > 1:
            found = []
        local = _local(balancer_node, target, by_place)
        if local and found and found[0] not in local:
            # A tunnel and a living server both claim the port: the tunnel may not have it.
            found = []
            ports |= {worker.port for worker in local if worker.port is not None}
        if address in roads.identities:
            guessed = found
            found = _confirmed(found, by_identity, *roads.identities[address])
            if len(guessed) == len(found) == 1 and guessed[0].name != found[0].name:
                astray[address] = guessed[0].name
        worker_of[address] = found[0].name if len(found) == 1 else None
        if worker_of[address] is None:
            open_ends[address] = frozenset(ports | {port for _, port in ends})
            nowhere = not ports and len(ends) == 1 and by_place.keys().isdisjoint(ends)
            # a worker whose port is not known may be the one that is meant
            if nowhere and not any(node in portless for node, _ in ends):
                (missed[address],) = ends
    doubts = _doubts(balancer_node, worker_of, open_ends, workers)
    return Matching(worker_of, doubts, missed, astray)


def _confirmed(
    found: list[Endpoint], by_identity: Mapping[str, list[Endpoint]], seen: str, at: float
) -> list[Endpoint]:
    """What was found, corrected by the identity `seen` through the member at the moment `at`."""
    same = [worker for worker in by_identity.get(seen, []) if worker.member is None]
    if len(same) == 1:
        return same
    if any(
        comparable(worker.identity)
        and worker.identity != seen
        and at > worker.identity_since + SETTLE_SECONDS
        for worker in found
    ):
        return []
    return found


def comparable(identity: str | None) -> bool:
    """Whether the identity is one that also shows through a member: the server's own."""
    return identity is not None and identity.isdecimal()


def _local(
    node: str, target: Address | None, by_place: Mapping[tuple[str, int], list[Endpoint]]
) -> list[Endpoint]:
    if target is None or not target.loopback:
        return []
    return [worker for worker in by_place.get((node, target.port), []) if worker.alive]


def _doubts(
    balancer_node: str,
    worker_of: Mapping[str, str | None],
    open_ends: Mapping[str, frozenset[int]],
    workers: Sequence[Endpoint],
) -> dict[str, tuple[str, ...]]:
    matched = {name for name in worker_of.values() if name is not None}
    loose = [
        (address, ports, target.loopback)
        for address, ports in open_ends.items()
        if (target := parse(address, NGINX_PORT)) is not None
    ]
    doubts: dict[str, tuple[str, ...]] = {}
    for worker in workers:
        if worker.name in matched or worker.member is not None:
            continue
        # A dead tunnel's port says nothing about the port behind it.
        away = worker.node != balancer_node
        perhaps = [
            address
            for address, ports, loopback in loose
            if worker.port is None or worker.port in ports or (loopback and away)
        ]
        if perhaps:
            doubts[worker.name] = tuple(perhaps)
    return doubts


class _Forwards:
    """Follows an address from node to node through the tunnels."""

    def __init__(self, roads: Roads) -> None:
        self._addresses = roads.addresses
        self._listening: dict[tuple[str | None, int], list[tuple[Tunnel, str]]] = {}
        for node, tunnels in roads.tunnels.items():
            for tunnel in tunnels:
                listen = parse(tunnel.listen)
                if listen is None:
                    continue
                there = node_of(ssh_host(tunnel.destination), node, self._addresses)
                at = node if tunnel.direction == "L" else there
                self._listening.setdefault((at, listen.port), []).append((tunnel, node))

    def follow(
        self,
        node: str,
        address: Address,
        ends: set[tuple[str, int]],
        open_ports: set[int],
        hops: int = 0,
    ) -> None:
        """Add to `ends` each (node, port) that `address`, used on `node`, leads to.

        Ports whose node is not known go to `open_ports`.
        """
        at = node_of(address.host, node, self._addresses)
        if at is None or hops > _MOST_HOPS:
            open_ports.add(address.port)
            return
        tunnels = self._listening.get((at, address.port), [])
        for tunnel, home in tunnels:
            target = parse(tunnel.target)
            if target is None:
                continue
            seen_from: str | None = home
            if tunnel.direction == "L":
                seen_from = node_of(ssh_host(tunnel.destination), home, self._addresses)
            if seen_from is None:
                open_ports.add(target.port)
            else:
                self.follow(seen_from, target, ends, open_ports, hops + 1)
        if not tunnels:
            ends.add((at, address.port))
            # A reverse tunnel towards a machine that goes by another name may be this one.
            for tunnel, _ in self._listening.get((None, address.port), []):
                target = parse(tunnel.target)
                if target is not None:
                    open_ports.add(target.port)


def state_of(member: UpstreamMember, busy: bool) -> Membership:
    """A server line's state; `busy` is whether requests still run behind it."""
    if not member.down:
        return "in"
    return "draining" if busy else "down"


def membership(states: Sequence[Membership]) -> Membership:
    """What a worker is, from the states of its server lines; none at all is `absent`."""
    kinds = set(states)
    if not kinds:
        return "absent"
    if len(kinds) == 1:
        return states[0]
    return "mixed" if "in" in kinds else "draining"


def leading_upstream(
    members: Sequence[UpstreamMember], worker_of: Mapping[str, str | None]
) -> tuple[str, int] | None:
    """The upstream most of whose members are workers, with their number; None where none is."""
    counts: dict[str, int] = {}
    for member in members:
        if worker_of.get(member.address) is not None:
            counts[member.upstream] = counts.get(member.upstream, 0) + 1
    if not counts:
        return None
    upstream = max(counts, key=lambda name: counts[name])
    return upstream, counts[upstream]


def _key(address: str) -> Address | str:
    parsed = parse(address, NGINX_PORT)
    if parsed is None:
        return address
    return Address("localhost" if parsed.loopback else parsed.host, parsed.port)

"""The workers that are to run in the place of others: names, ports, texts and server lines."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llamatop.collect import addresses, names
from llamatop.errors import Refused
from llamatop.model import visible
from llamatop.model.cluster import ClusterSnapshot, WorkerView
from llamatop.transport.base import Machine

from . import unit_copy, unit_facts
from .files import Member
from .targets import Target
from .unit_copy import Source, Wanted
from .unit_facts import UNITS


class Taken(Struct, frozen=True):
    """The names of units and the ports that nobody else may have; newcomers add theirs."""

    names: set[str]
    ports: set[int]


class New(Struct, frozen=True):
    """One worker that is to run: `target` where its unit exists already, else `text` to write.

    `back` are its server lines, marked down now; `beside` the ones that it is to get.
    """

    name: str
    unit: str
    cards: str
    port: int
    target: Target | None = None
    text: str = ""
    back: tuple[Member, ...] = ()
    beside: tuple[tuple[Member, str], ...] = ()

    @property
    def path(self) -> str:
        """Its unit's file, where it is to be written."""
        return f"{UNITS}/{self.unit}"

    @property
    def data(self) -> bytes:
        """Its text as the bytes that are written."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def members(self) -> tuple[Member, ...]:
        """Its server lines once it is in."""
        return (*self.back, *((member[0], address) for member, address in self.beside))


def cards_of(snapshot: ClusterSnapshot, worker: WorkerView) -> tuple[str, ...]:
    """A worker's cards as CUDA_VISIBLE_DEVICES names them; empty where that is not certain."""
    if not worker.gpus:
        return ()
    written = worker.sample.launch.cuda_visible_devices
    if written is None:
        return tuple(str(index) for index in worker.gpus)
    entries = tuple(entry.strip() for entry in written.split(",") if entry.strip())
    seen = visible.visible_devices(written, snapshot.node(worker.node).snapshot.gpus)
    whole = seen is not None and len(seen) == len(entries) and set(seen) == set(worker.gpus)
    return entries if whole else ()


def sleepers(snapshot: ClusterSnapshot, node: str) -> list[WorkerView]:
    """The node's workers that do not run and have no server line in: they may be used again."""
    return [
        worker
        for worker in snapshot.workers
        if worker.node == node
        and worker.unit.active_state in ("inactive", "failed")
        and worker.membership in ("down", "absent", None)
        and (worker.membership is not None or snapshot.balancer_node is None)
        and worker.sample.launch.cuda_visible_devices is not None
        and worker.sample.launch.port is not None
    ]


async def possible(snapshot: ClusterSnapshot, machine: Machine) -> list[str]:
    """The units that a split or an unsplit of the node's workers would make now."""
    taken = set((await unit_facts.facts(machine, snapshot)).names)
    found: list[str] = []
    single: dict[int, WorkerView] = {}
    for worker in snapshot.workers:
        if worker.node != machine.name or worker.sample.engine != "llama-server":
            continue
        if worker.gpus and len(worker.gpus) == 1:
            single.setdefault(worker.gpus[0], worker)
        for gpu in worker.gpus if worker.gpus and len(worker.gpus) > 1 else ():
            held = taken | set(found)
            found.append(name_for(snapshot, machine.name, worker.unit.name, (gpu,), held))
    if len(single) > 1:
        cards = tuple(sorted(single))
        first = single[cards[0]].unit.name
        found.append(name_for(snapshot, machine.name, first, cards, taken | set(found)))
    return found


def newcomers(
    snapshot: ClusterSnapshot,
    olds: Sequence[Target],
    wanted: Sequence[tuple[str, ...]],
    taken: Taken,
    sources: Mapping[str, Source],
) -> list[New]:
    """The workers for the cards of each of `wanted`, those that sleep first."""
    return [
        _asleep(snapshot, olds, cards, sources) or _made(snapshot, olds, cards, taken, sources)
        for cards in wanted
    ]


def _asleep(
    snapshot: ClusterSnapshot,
    olds: Sequence[Target],
    cards: tuple[str, ...],
    sources: Mapping[str, Source],
) -> New | None:
    """A unit that does not run and is just what is wanted, its server lines down or none."""
    first = sources[olds[0].unit.name]
    for worker in sleepers(snapshot, olds[0].node):
        launch, source = worker.sample.launch, sources.get(worker.unit.name)
        if launch.cuda_visible_devices != ",".join(cards) or source is None:
            continue
        if unit_copy.alike(source) != unit_copy.alike(first) or launch.port is None:
            continue
        target = Target(worker.name, worker.node, worker.unit, worker)
        back = worker.members
        beside = () if back else _beside(snapshot, olds, launch.port)
        if beside is not None:
            unit, port = worker.unit.name, launch.port
            return New(worker.name, unit, ",".join(cards), port, target, back=back, beside=beside)
    return None


def _made(
    snapshot: ClusterSnapshot,
    olds: Sequence[Target],
    cards: tuple[str, ...],
    taken: Taken,
    sources: Mapping[str, Source],
) -> New:
    old = olds[0]
    unit = name_for(snapshot, old.node, old.unit.name, indices(snapshot, old, cards), taken.names)
    shorts = names.short_names(old.node, {*_worker_units(snapshot, old.node), unit})
    globs = snapshot.cluster.node(old.node).units
    if globs and not any(fnmatch.fnmatchcase(unit, f) for g in globs for f in (g, f"{g}.service")):
        raise Refused(
            f"{unit} would match none of the units = {list(globs)} of {old.node} in the cluster"
            " file, so nobody would see it: add it there first"
        )
    assert old.worker is not None
    after = max((o.worker.sample.launch.port or 8080 for o in olds if o.worker), default=8080)
    port, beside = _port(snapshot, olds, after, taken.ports)
    taken.names.add(unit)
    taken.ports.add(port)
    wanted = Wanted(unit, ",".join(cards), port)
    text = unit_copy.copy(sources[old.unit.name], wanted)
    return New(shorts[unit], unit, wanted.cards, port, text=text, beside=beside)


def indices(snapshot: ClusterSnapshot, old: Target, cards: tuple[str, ...]) -> tuple[int, ...]:
    """The cards by number."""
    gpus = snapshot.node(old.node).snapshot.gpus
    return visible.visible_devices(",".join(cards), gpus) or tuple(range(len(cards)))


def name_for(
    snapshot: ClusterSnapshot, node: str, old: str, cards: Sequence[int], taken: set[str]
) -> str:
    """A unit's name in the manner of those that there are, that no unit has."""
    stem = "llama-server-gpu"
    others = [w for w in snapshot.workers if w.gpus and len(w.gpus) == 1]
    for worker in sorted(others, key=lambda w: w.node != node):
        parts = unit_facts.numbered(worker.unit.name.removesuffix(names.SUFFIX))
        if parts is not None and worker.gpus == (parts[1],):
            stem = parts[0]
            break
    last = "-".join(str(card) for card in cards)
    plain = old.removesuffix(names.SUFFIX).replace("@", "-")
    shorts = {names.short(unit) for unit in _worker_units(snapshot, node)}
    wished = (f"{stem}{last}", f"{plain}-gpu{last}")
    # A name that is like another's but for what stands before the short one would rename that.
    like = {f"{name}{names.SUFFIX}" for name in wished if names.short(name) in shorts}
    return unit_facts.free_name(taken | like, wished)


def _worker_units(snapshot: ClusterSnapshot, node: str) -> set[str]:
    return {worker.unit.name for worker in snapshot.workers if worker.node == node}


def _port(
    snapshot: ClusterSnapshot, olds: Sequence[Target], after: int, taken: set[int]
) -> tuple[int, tuple[tuple[Member, str], ...]]:
    """A free port, and the server lines by which the balancer reaches it."""
    old = olds[0]
    assert old.worker is not None
    if not old.worker.members:
        return unit_facts.free_port(taken, after), ()
    forwarded = _forwarded(snapshot, old)
    free = unit_facts.free_port(taken, after)
    for port in (*(port for port in forwarded if port not in taken), free):
        beside = _beside(snapshot, olds, port)
        if beside is not None:
            return port, beside
    address = old.worker.members[0][1]
    raise Refused(
        f"the balancer reaches {old.name} as {address}, and nothing leads it to another port of"
        f" {old.node} that is free: add a forward to port {free} of {old.node} to the tunnel first"
    )


def _forwarded(snapshot: ClusterSnapshot, old: Target) -> list[int]:
    """The ports of the worker's node that tunnels on the balancer lead to."""
    return sorted(port for port in _tunnels(snapshot, old) if port)


def _tunnels(snapshot: ClusterSnapshot, old: Target) -> dict[int, str]:
    """Where the balancer reaches ports of the worker's node, by port, over the worker's tunnel."""
    assert old.worker is not None
    mine = [addresses.parse(address, 80) for _, address in old.worker.members]
    found: dict[int, str] = {}
    for node in (snapshot.balancer_node, old.node):
        tunnels = snapshot.node(node).snapshot.tunnels if node else ()
        units = {
            tunnel.unit or tunnel.pid
            for tunnel in tunnels
            if any(m and m.loopback and m.port == _port_of(tunnel.listen) for m in mine)
        }
        for tunnel in tunnels:
            if (tunnel.unit or tunnel.pid) in units:
                found.setdefault(_port_of(tunnel.target), tunnel.listen)
    return found


def _port_of(text: str) -> int:
    address = addresses.parse(text)
    return address.port if address is not None else 0


def _beside(
    snapshot: ClusterSnapshot, olds: Sequence[Target], port: int
) -> tuple[tuple[Member, str], ...] | None:
    """The lines to add for a port, beside each of the old worker's; None where none leads there."""
    old = olds[0]
    assert old.worker is not None
    tunnels = _tunnels(snapshot, old)
    local = old.node == snapshot.balancer_node
    found = []
    for upstream, address in old.worker.members:
        parsed = addresses.parse(address, 80)
        if parsed is None:
            return None
        if tunnels or (parsed.loopback and not local):
            near = tunnels.get(port)
            if near is None:
                return None
            number = _port_of(near)
        else:
            number = port
        host = address.rpartition(":")[0] if ":" in address else address
        new = f"{host}:{number}"
        if any((m.upstream, m.address) == (upstream, new) for m in snapshot.members):
            return None
        found.append(((upstream, address), new))
    return tuple(found)

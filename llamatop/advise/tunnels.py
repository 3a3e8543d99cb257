"""Tunnels that members of the upstream depend on, and members that lead astray."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llamatop.advise.finding import Finding, Mend, Rule
from llamatop.model.cluster import ClusterSnapshot, MemberView
from llamatop.model.observed import UnitState

_RUNNING = ("active", "reloading")


def down(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit that does not run, and through which a member that is in is reached."""
    carried = list(carrying(snapshot))
    # Another unit, or something else, may keep the port of one that is no longer used.
    served = {
        _local(member.address)
        for one in carried
        if one.unit.active_state in _RUNNING
        for member in one.members
    }
    listening = snapshot.balancer.listening if snapshot.balancer is not None else None
    served.update(map(_local, listening or ()))
    for one in carried:
        waiting = [
            member
            for member in one.members
            if member.state in ("in", "mixed") and _local(member.address) not in served
        ]
        # Where a reverse tunnel that is down leads to is known by the port alone.
        if not waiting or (one.reverse and listening is None):
            continue
        unit = one.unit
        if unit.active_state in (None, *_RUNNING):
            continue
        state = "/".join(word for word in (unit.active_state, unit.sub_state) if word)
        yield Finding(
            "tunnel-down",
            "error",
            one.name,
            f"it is {state}, and {_named(waiting)} through it"
            + (f"; Result={unit.result}" if unit.result not in (None, "success") else ""),
            "nginx tries a dead port first, or has fewer workers than it lists",
            f"llamatop start {one.name}; llamatop logs {one.name} says why it ended",
            Mend("start", (one.name,)),
        )


def no_keepalive(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A tunnel that would not notice that the other side is gone."""
    for one in carrying(snapshot):
        members = one.members
        if one.reverse:
            # The port may be another machine's: that its worker answers there tells whose it is.
            members = [member for member in members if _home(member) == one.node]
        if members and one.unit.keepalive is False and one.unit.active_state in _RUNNING:
            far = f"; on {snapshot.balancer_node} ClientAliveInterval 10 in sshd_config"
            yield Finding(
                "tunnel-no-keepalive",
                "warning",
                one.name,
                "no ServerAliveInterval, neither in ExecStart nor in ssh's files;"
                f" {_named(members)} through it",
                "when the link dies silently its ports go on accepting, and requests hang",
                f"systemctl edit --full {one.unit.name}: add -o ServerAliveInterval=10"
                " -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes to ExecStart"
                + (far if one.reverse else ""),
            )


def wrong_worker(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A server line behind which another worker answers than the way there names."""
    places = _lines(snapshot)
    units: dict[str, list[str]] = {}
    for one in carrying(snapshot):
        for member in one.members:
            units.setdefault(member.address, []).append(one.name)
    for member in snapshot.members:
        if member.expected is not None and member.worker is not None:
            tunnels = " or ".join(units.get(member.address, ())) or "the tunnel that should"
            yield Finding(
                "member-wrong-worker",
                "error",
                places.get((member.upstream, member.address), snapshot.balancer_node or ""),
                f"{member.address} of {member.upstream} leads to {member.expected},"
                f" yet {member.worker} answers there",
                "a drain takes out the wrong worker, and one of the two gets no requests",
                f"on {snapshot.balancer_node}: `ss -ltnp` shows what listens on"
                f" {member.address}; end what should not, and restart {tunnels}",
            )


def astray(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A tunnel to a member that ends at a port of a node where none of its workers listens."""
    loose = {
        _local(one.address): one
        for one in snapshot.members
        if one.worker is None and one.state in ("in", "mixed")
    }
    if not loose:
        return
    ports, places = _ports(snapshot), _lines(snapshot)
    for node in snapshot.nodes:
        reverse = node.name != snapshot.balancer_node
        for tunnel in node.snapshot.tunnels if node.reachable else ():
            member = loose.get(_local(tunnel.listen))
            if member is None or tunnel.direction != ("R" if reverse else "L"):
                continue
            home = node.name if reverse else _destination(snapshot, tunnel.destination)
            host, _, port = _local(tunnel.target).rpartition(":")
            known = ports.get(home or "")
            if not host.startswith("127.") or not known or port in known:
                continue
            name = f"{node.name}/{(tunnel.unit or 'ssh').removesuffix('.service')}"
            yield Finding(
                "tunnel-astray",
                "warning",
                places.get((member.upstream, member.address), name),
                f"{member.address} of {member.upstream} goes by {name} to port {port} of {home},"
                f" whose workers listen on {', '.join(sorted(known))}",
                "what nginx sends there fails, unless something else serves at that port",
                f"correct the forward to {tunnel.target} in {name}, and restart it",
            )


class Carrier(Struct, frozen=True):
    """A tunnel's unit with the members that lead through it.

    `reverse` is a `-R`, which another node opens on the balancer's: by its port alone.
    """

    node: str
    unit: UnitState
    members: list[MemberView]
    reverse: bool

    @property
    def name(self) -> str:
        """As plans call it."""
        return f"{self.node}/{self.unit.name.removesuffix('.service')}"


def carrying(snapshot: ClusterSnapshot) -> Iterator[Carrier]:
    """The tunnels whose ports on the balancer's node are those of members."""
    by_listen: dict[str, list[MemberView]] = {}
    for member in snapshot.members:
        by_listen.setdefault(_local(member.address), []).append(member)
    for node in snapshot.nodes:
        if not node.reachable:
            continue
        reverse = node.name != snapshot.balancer_node
        direction = "R " if reverse else "L "
        for unit in node.snapshot.units.values():
            if unit.kind != "tunnel":
                continue
            members = [
                member
                for forward in unit.forwards or ()
                if forward.startswith(direction)
                for member in by_listen.get(_local(forward[2:]), ())
            ]
            if members:
                yield Carrier(node.name, unit, members, reverse)


def _ports(snapshot: ClusterSnapshot) -> dict[str, set[str]]:
    """The ports of each node's workers; nodes left out where one is not known, or nginx runs."""
    found: dict[str, set[str]] = {
        node.name: set()
        for node in snapshot.nodes
        if node.reachable and all(unit.kind != "nginx" for unit in node.snapshot.units.values())
    }
    for worker in snapshot.workers:
        port = (worker.sample.url or "").rstrip("/").rpartition(":")[2]
        if port.isdecimal():
            found.get(worker.node, set()).add(port)
        else:
            found.pop(worker.node, None)
    return found


def _destination(snapshot: ClusterSnapshot, written: str) -> str | None:
    """The one node that an ssh on the balancer's means by it, None where that is not certain."""
    host = _host(written)
    found = [
        node.name
        for node in snapshot.nodes
        if host in (node.name.lower(), node.snapshot.host.hostname)
        or host in {_host(one.ssh or "") for one in snapshot.cluster.nodes if one.name == node.name}
    ]
    return found[0] if len(found) == 1 else None


def _host(destination: str) -> str:
    """The host of `user@host:port`; an address of IPv6 is no host that this knows."""
    return destination.removeprefix("ssh://").rpartition("@")[2].partition(":")[0].lower()


def _home(member: MemberView) -> str | None:
    return member.worker.rpartition("/")[0] if member.worker is not None else None


def _local(address: str) -> str:
    """One spelling of the node's own loopback."""
    for name in ("localhost:", "[::1]:", "*:", "0.0.0.0:", "[::]:"):
        if address.startswith(name):
            return "127.0.0.1:" + address[len(name) :]
    return address


def _named(members: list[MemberView]) -> str:
    addresses = list(dict.fromkeys(member.address for member in members))
    noun = "member" if len(addresses) == 1 else "members"
    verb = "leads" if len(addresses) == 1 else "lead"
    return f"{noun} {', '.join(addresses)} of {members[0].upstream} {verb}"


def _lines(snapshot: ClusterSnapshot) -> dict[tuple[str, str], str]:
    """Where each server line stands."""
    members = (snapshot.balancer.members if snapshot.balancer else None) or ()
    return {
        (member.upstream, member.address): f"{snapshot.balancer_node}:{member.file}:{member.line}"
        for member in members
        if member.file is not None and member.line is not None
    }


RULES: tuple[Rule, ...] = (down, no_keepalive, wrong_worker, astray)

"""Tunnels that members of the upstream depend on, and members that lead astray."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.advise.finding import Finding, Mend, Rule
from llamatop.model.cluster import ClusterSnapshot, MemberView
from llamatop.model.observed import UnitState

_RUNNING = ("active", "reloading")


def down(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit that does not run, and through which a member that is in is reached."""
    carrying = list(_carrying(snapshot))
    # Another unit, or something else, may keep the port of one that is no longer used.
    served = {
        _local(member.address)
        for _, unit, members in carrying
        if unit.active_state in _RUNNING
        for member in members
    }
    served.update(map(_local, (snapshot.balancer and snapshot.balancer.listening) or ()))
    for node, unit, members in carrying:
        waiting = [
            one
            for one in members
            if one.state in ("in", "mixed") and _local(one.address) not in served
        ]
        if not waiting or unit.active_state in (None, *_RUNNING):
            continue
        name = f"{node}/{unit.name.removesuffix('.service')}"
        state = "/".join(word for word in (unit.active_state, unit.sub_state) if word)
        yield Finding(
            "tunnel-down",
            "error",
            name,
            f"it is {state}, and {_named(waiting)} through it"
            + (f"; Result={unit.result}" if unit.result not in (None, "success") else ""),
            "nginx tries a dead port first, or has fewer workers than it lists",
            f"llamatop start {name}; llamatop logs {name} says why it ended",
            Mend("start", (name,)),
        )


def no_keepalive(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A tunnel that would not notice that the other side is gone."""
    for node, unit, members in _carrying(snapshot):
        if unit.keepalive is False and unit.active_state in _RUNNING:
            yield Finding(
                "tunnel-no-keepalive",
                "warning",
                f"{node}/{unit.name.removesuffix('.service')}",
                "no ServerAliveInterval, neither in ExecStart nor in ssh's files;"
                f" {_named(members)} through it",
                "when the link dies silently its ports go on accepting, and requests hang",
                f"systemctl edit --full {unit.name}: add -o ServerAliveInterval=10"
                " -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes to ExecStart",
            )


def wrong_worker(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A server line behind which another worker answers than the way there names."""
    places = _lines(snapshot)
    for member in snapshot.members:
        if member.expected is not None and member.worker is not None:
            yield Finding(
                "member-wrong-worker",
                "error",
                places.get((member.upstream, member.address), snapshot.balancer_node or ""),
                f"{member.address} of {member.upstream} leads to {member.expected},"
                f" yet {member.worker} answers there",
                "a drain takes out the wrong worker, and one of the two gets no requests",
                f"on {snapshot.balancer_node}: `ss -ltnp` shows what listens on"
                f" {member.address}; restart the tunnel that should",
            )


def _carrying(
    snapshot: ClusterSnapshot,
) -> Iterator[tuple[str, UnitState, list[MemberView]]]:
    """Tunnel units with the members that certainly lead through them: on the balancer's node."""
    by_listen: dict[str, list[MemberView]] = {}
    for member in snapshot.members:
        by_listen.setdefault(_local(member.address), []).append(member)
    for node in snapshot.nodes:
        if not node.reachable or node.name != snapshot.balancer_node:
            continue
        for unit in node.snapshot.units.values():
            if unit.kind != "tunnel":
                continue
            members = [
                member
                for forward in unit.forwards or ()
                if forward.startswith("L ")
                for member in by_listen.get(_local(forward[2:]), ())
            ]
            if members:
                yield node.name, unit, members


def _local(address: str) -> str:
    """One spelling of the node's own loopback."""
    for name in ("localhost:", "[::1]:", "*:", "0.0.0.0:"):
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


RULES: tuple[Rule, ...] = (down, no_keepalive, wrong_worker)

"""Rules about tunnels: each with a case that fires and near ones that must not."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from msgspec.structs import replace

from llamatop.advise import tunnels
from llamatop.advise.finding import Finding, Mend, Rule
from llamatop.model.cluster import ClusterSnapshot, MemberView
from llamatop.model.observed import Tunnel, UpstreamMember
from tests.screens.clusters import node, unit, well, with_units

FILE = "/etc/nginx/conf.d/llama.conf"


def cluster(
    state: str = "in", home: str = "node1", expected: str | None = None, **changes: Any
) -> ClusterSnapshot:
    """One member that a tunnel on `home` brings; node1 runs nginx."""
    base = well()
    given = {"forwards": ("L 127.0.0.1:37083",), "keepalive": True, **changes}
    tunnel = unit("autossh-node2.service", "tunnel", "autossh", **given)
    member = MemberView(
        "llama_cluster",
        "127.0.0.1:37083",
        state,  # type: ignore[arg-type]  # a membership's word
        "node2/big",
        expected=expected,
    )
    assert base.balancer is not None
    line = UpstreamMember("llama_cluster", "127.0.0.1:37083", False, file=FILE, line=4)
    return replace(
        base,
        nodes=tuple(
            with_units(node(view.name), *([tunnel] if view.name == home else []))
            for view in base.nodes
        ),
        members=(member,),
        balancer=replace(base.balancer, members=(line,)),
    )


def found(rule: Rule, snapshot: ClusterSnapshot) -> list[Finding]:
    return list(rule(snapshot))


DEAD = {"active_state": "failed", "sub_state": "failed", "result": "exit-code"}


def test_a_member_whose_tunnel_is_down() -> None:
    (finding,) = found(tunnels.down, cluster(**DEAD))
    assert finding.place == "node1/autossh-node2"
    assert "failed/failed" in finding.evidence
    assert "127.0.0.1:37083" in finding.evidence
    assert finding.plan == Mend("start", ("node1/autossh-node2",))


def test_the_same_port_spelled_otherwise() -> None:
    assert found(tunnels.down, cluster(forwards=("L localhost:37083",), **DEAD))


def test_a_port_that_another_tunnel_keeps() -> None:
    ill = cluster(**DEAD)
    (view,) = (view for view in ill.nodes if view.name == "node1")
    old = view.snapshot.units["autossh-node2.service"]
    new = replace(old, name="autossh-new.service", active_state="active", sub_state="running")
    nodes = [with_units(node("node1"), old, new) if one is view else one for one in ill.nodes]
    assert found(tunnels.down, replace(ill, nodes=tuple(nodes))) == []
    assert ill.balancer is not None
    listening = replace(ill.balancer, listening=("127.0.0.1:37083",))
    assert found(tunnels.down, replace(ill, balancer=listening)) == []


@pytest.mark.parametrize(
    "snapshot",
    [
        cluster(),
        cluster(active_state=None),
        cluster("down", **DEAD),
        cluster(forwards=("L 127.0.0.1:9999",), **DEAD),
        cluster(forwards=None, **DEAD),
        cluster(home="node2", **DEAD),
    ],
    ids=["runs", "unknown", "drained", "another-port", "unknown-ports", "another-node"],
)
def test_no_tunnel_is_missed(snapshot: ClusterSnapshot) -> None:
    assert not found(tunnels.down, snapshot)


def test_a_tunnel_without_keepalive() -> None:
    (finding,) = found(tunnels.no_keepalive, cluster(keepalive=False))
    assert "ServerAliveInterval" in finding.evidence
    assert "127.0.0.1:37083" in finding.evidence


@pytest.mark.parametrize(
    "changes",
    [
        {"keepalive": True},
        {"keepalive": None},
        {"keepalive": False, "active_state": "inactive"},
        {"keepalive": False, "forwards": ("R 127.0.0.1:37083",)},
    ],
)
def test_keepalive_that_is_there_or_cannot_be_known(changes: dict[str, Any]) -> None:
    assert not found(tunnels.no_keepalive, cluster(**changes))


def reverse(
    *,
    listening: tuple[str, ...] | None = ("0.0.0.0:22",),
    worker: str | None = "node2/big",
    **changes: Any,
) -> ClusterSnapshot:
    """The same member, brought by a `-R` of node2."""
    base = cluster(home="node2", **{"forwards": ("R 127.0.0.1:37083",), **changes})
    assert base.balancer is not None
    members = tuple(replace(one, worker=worker) for one in base.members)
    return replace(base, balancer=replace(base.balancer, listening=listening), members=members)


def test_a_member_whose_reverse_tunnel_is_down() -> None:
    (finding,) = found(tunnels.down, reverse(worker=None, **DEAD))
    assert (finding.place, finding.severity) == ("node2/autossh-node2", "error")
    assert "failed/failed, and member 127.0.0.1:37083" in finding.evidence
    assert finding.plan == Mend("start", ("node2/autossh-node2",))


@pytest.mark.parametrize(
    "snapshot",
    [
        reverse(),
        reverse(listening=None, **DEAD),
        reverse(listening=("127.0.0.1:37083",), **DEAD),
        reverse(forwards=("R 127.0.0.1:2222",), **DEAD),
        reverse(forwards=("L 127.0.0.1:37083",), **DEAD),
    ],
    ids=["runs", "unknown-listeners", "served-by-another", "another-port", "a-port-of-its-own"],
)
def test_no_reverse_tunnel_is_missed(snapshot: ClusterSnapshot) -> None:
    assert not found(tunnels.down, snapshot)


def test_a_reverse_tunnel_without_keepalive() -> None:
    (finding,) = found(tunnels.no_keepalive, reverse(keepalive=False))
    assert finding.place == "node2/autossh-node2"
    assert "ServerAliveInterval=10" in finding.mend
    assert "on node1 ClientAliveInterval" in finding.mend
    # It may lead to another machine's port of that number.
    assert not found(tunnels.no_keepalive, reverse(keepalive=False, worker=None))
    assert not found(tunnels.no_keepalive, reverse(keepalive=False, worker="node1/gpu0"))
    assert not found(tunnels.no_keepalive, reverse(keepalive=None))


def test_another_worker_answers_than_a_reverse_tunnel_names() -> None:
    (finding,) = found(tunnels.wrong_worker, replace_expected(reverse(), "node2/gpu0"))
    assert "leads to node2/gpu0, yet node2/big answers" in finding.evidence
    assert "restart node2/autossh-node2" in finding.mend
    assert not found(tunnels.wrong_worker, reverse())


def replace_expected(snapshot: ClusterSnapshot, expected: str) -> ClusterSnapshot:
    return replace(
        snapshot, members=tuple(replace(one, expected=expected) for one in snapshot.members)
    )


def test_another_worker_answers_than_the_way_names() -> None:
    (finding,) = found(tunnels.wrong_worker, cluster(expected="node2/gpu0"))
    assert finding.place == f"node1:{FILE}:4"
    assert "leads to node2/gpu0, yet node2/big answers" in finding.evidence
    assert not found(tunnels.wrong_worker, cluster())


def led(
    direction: Literal["L", "R"], target: str, *, worker: str | None = None, **changes: Any
) -> ClusterSnapshot:
    """The member by a tunnel that runs, on nginx's node or from node2; node2 listens on 37080."""
    base = cluster() if direction == "L" else reverse()
    home = "node1" if direction == "L" else "node2"
    to = changes.pop("destination", "ops@node2")
    way = Tunnel(direction, "127.0.0.1:37083", target, to, unit="autossh-node2.service")
    nodes = tuple(
        replace(view, snapshot=replace(view.snapshot, tunnels=(way,)))
        if view.name == home
        else view
        for view in base.nodes
    )
    member = replace(base.members[0], worker=worker, **changes)
    return replace(base, nodes=nodes, members=(member,))


@pytest.mark.parametrize("direction", ["L", "R"])
def test_a_tunnel_that_ends_where_no_worker_listens(direction: Literal["L", "R"]) -> None:
    known = {one.sample.url for one in cluster().workers if one.node == "node2"}
    assert known == {"http://127.0.0.1:37080"}
    (finding,) = found(tunnels.astray, led(direction, "127.0.0.1:37180"))
    assert finding.place == f"node1:{FILE}:4"
    name = f"{'node1' if direction == 'L' else 'node2'}/autossh-node2"
    assert f"llama_cluster goes by {name} to port 37180 of node2" in finding.evidence
    assert finding.evidence.endswith("listen on 37080")
    for near in (
        led(direction, "localhost:37080"),
        led(direction, "10.0.0.9:37180"),
        led(direction, "127.0.0.1:37180", worker="node2/big"),
        led(direction, "127.0.0.1:37180", state="down"),
    ):
        assert not found(tunnels.astray, near)


def test_where_a_tunnel_leads_is_not_guessed() -> None:
    assert not found(tunnels.astray, led("L", "127.0.0.1:37180", destination="bastion"))
    # nginx there may serve at any port
    chained = led("L", "127.0.0.1:37180")
    far = with_units(chained.nodes[1], unit("nginx.service", "nginx", "nginx"))
    assert not found(tunnels.astray, replace(chained, nodes=(chained.nodes[0], far)))
    hidden = tuple(replace(one, sample=replace(one.sample, url=None)) for one in chained.workers)
    assert not found(tunnels.astray, replace(chained, workers=hidden))

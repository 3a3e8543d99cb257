"""Which server line is which worker: declared, tunnelled, by address, or not certain."""

from __future__ import annotations

import pytest

from llamatop.collect.addresses import Address, parse, ssh_host
from llamatop.collect.membership import Endpoint, Matching, Roads, match, membership
from llamatop.model.cluster import Membership
from llamatop.model.observed import Tunnel

ADDRESSES = {
    "node1": frozenset({"node1", "198.18.0.11"}),
    "node2": frozenset({"node2", "gpu-b.example", "198.18.0.12"}),
}
NODE1 = (Endpoint("node1/gpu0", "node1", 37081), Endpoint("node1/gpu1", "node1", 37082))
NODE2 = (Endpoint("node2/gpu0", "node2", 37081), Endpoint("node2/gpu1", "node2", 37082))
LINES = ("127.0.0.1:37081", "127.0.0.1:37082", "127.0.0.1:37083", "127.0.0.1:37084")


def left(listen: str, target: str, destination: str = "node2") -> Tunnel:
    return Tunnel("L", listen, target, destination)


def joined(
    lines: tuple[str, ...] = LINES,
    workers: tuple[Endpoint, ...] = NODE1 + NODE2,
    identities: dict[str, str] | None = None,
    **tunnels: tuple[Tunnel, ...],
) -> Matching:
    return match(
        "node1",
        lines,
        workers,
        Roads(tunnels, ADDRESSES, {a: (i, 100.0) for a, i in (identities or {}).items()}),
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:37081", Address("127.0.0.1", 37081)),
        ("[::1]:80", Address("::1", 80)),
        ("37083", Address("", 37083)),
        ("*:37083", Address("", 37083)),
        ("Node2:1", Address("node2", 1)),
        ("node2", None),
        ("unix:/run/x.sock", None),
        ("node2:99999", None),
        ("node2:http", None),
        ("", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    assert parse(text) == address


def test_nginx_lines_without_a_port_have_port_80() -> None:
    assert parse("node2", 80) == Address("node2", 80)
    assert parse("[::1]", 80) == Address("::1", 80)


@pytest.mark.parametrize(
    ("destination", "host"),
    [("ops@Node2:2222", "node2"), ("ssh://ops@[::1]:22", "::1"), ("node2", "node2")],
)
def test_ssh_destinations(destination: str, host: str) -> None:
    assert ssh_host(destination) == host


def test_both_nodes_on_the_same_ports_behind_tunnels_to_different_ones() -> None:
    found = joined(
        node1=(
            left("127.0.0.1:37083", "127.0.0.1:37081", "ops@node2"),
            left("37084", "localhost:37082", "gpu-b.example"),
        )
    )
    assert found.worker_of == {
        "127.0.0.1:37081": "node1/gpu0",
        "127.0.0.1:37082": "node1/gpu1",
        "127.0.0.1:37083": "node2/gpu0",
        "127.0.0.1:37084": "node2/gpu1",
    }
    assert found.doubts == {}


def test_a_reverse_tunnel_from_the_workers_node() -> None:
    found = joined(
        node2=(Tunnel("R", "127.0.0.1:37083", "127.0.0.1:37082", "balancer@198.18.0.11"),)
    )
    assert found.worker_of["127.0.0.1:37083"] == "node2/gpu1"


def test_a_tunnel_that_ends_at_another_machine_of_the_cluster() -> None:
    found = joined(
        lines=("127.0.0.1:9000",),
        node1=(left("127.0.0.1:9000", "198.18.0.12:37081", "node1"),),
    )
    assert found.worker_of == {"127.0.0.1:9000": "node2/gpu0"}


def test_two_tunnels_one_behind_the_other() -> None:
    found = joined(
        lines=("127.0.0.1:9000",),
        node1=(left("127.0.0.1:9000", "127.0.0.1:9001"),),
        node2=(left("127.0.0.1:9001", "127.0.0.1:37082", "node1"),),
    )
    assert found.worker_of == {"127.0.0.1:9000": "node1/gpu1"}


def test_tunnels_in_a_circle_end() -> None:
    found = joined(
        lines=("127.0.0.1:9000",),
        node1=(left("127.0.0.1:9000", "127.0.0.1:9000", "node1"),),
    )
    assert found.worker_of == {"127.0.0.1:9000": None}


def test_by_a_nodes_address() -> None:
    found = joined(lines=("198.18.0.12:37082", "gpu-b.example:37081", "[::1]:37081"))
    assert found.worker_of == {
        "198.18.0.12:37082": "node2/gpu1",
        "gpu-b.example:37081": "node2/gpu0",
        "[::1]:37081": "node1/gpu0",
    }


def test_a_tunnel_to_a_machine_unknown_by_that_name_leaves_doubt_and_says_what_to_write() -> None:
    found = joined(node1=(left("127.0.0.1:37083", "127.0.0.1:37081", "b.internal"),))
    assert found.worker_of["127.0.0.1:37083"] is None
    assert "127.0.0.1:37083" in found.doubts["node2/gpu0"]
    fault = found.fault("node2/gpu0")
    assert fault is not None
    assert "127.0.0.1:37083" in fault
    assert "member = " in fault
    assert "node1/gpu0" not in found.doubts


def test_a_tunnel_to_ports_where_nobody_listens_is_named() -> None:
    ways = tuple(
        left(f"127.0.0.1:{port}", f"127.0.0.1:{port + 100}", "node2") for port in (37083, 37084)
    )
    found = joined(node1=ways)
    assert {found.worker_of[address] for address in ("127.0.0.1:37083", "127.0.0.1:37084")} == {
        None
    }
    told = {found.fault(name) for name in ("node2/gpu0", "node2/gpu1")}
    assert told == {
        "no server line leads here: 127.0.0.1:37083 leads to port 37183 of node2, and 1 more such,"
        " where no worker listens; correct the tunnel's unit, then restart it"
    }
    assert found.fault("node1/gpu0") is None
    spare = joined(node1=(ways[0], left("127.0.0.1:37084", "127.0.0.1:37082", "node2")))
    assert spare.worker_of["127.0.0.1:37084"] == "node2/gpu1"
    assert "37083 leads to port 37183 of node2, where" in (spare.fault("node2/gpu0") or "")


def test_a_tunnel_to_a_port_that_a_stopped_worker_may_have_is_not_called_wrong() -> None:
    ways = (left("127.0.0.1:37083", "127.0.0.1:8080", "node2"),)
    # started without --port, it has one only while it runs
    found = joined(workers=(*NODE1, Endpoint("node2/gpu0", "node2")), node1=ways)
    assert "127.0.0.1:37083" not in found.missed
    fault = found.fault("node2/gpu0") or ""
    assert "127.0.0.1:37083" in fault
    assert "correct the tunnel" not in fault
    elsewhere = joined(workers=(*NODE1, NODE2[0], Endpoint("node3/a", "node3")), node1=ways)
    assert elsewhere.missed["127.0.0.1:37083"] == ("node2", 8080)


def test_a_dead_tunnel_leaves_doubt_about_workers_elsewhere_only() -> None:
    spare = Endpoint("node1/spare", "node1", 37089)
    found = joined(workers=(*NODE1, spare, *NODE2))
    assert found.worker_of["127.0.0.1:37083"] is None
    assert set(found.doubts) == {"node2/gpu0", "node2/gpu1"}


def test_what_is_declared_wins() -> None:
    declared = Endpoint("node2/gpu0", "node2", 37081, member="localhost:37083")
    found = joined(
        workers=(*NODE1, declared, NODE2[1]),
        node1=(left("127.0.0.1:37083", "127.0.0.1:37082"),),
    )
    assert found.worker_of["127.0.0.1:37083"] == "node2/gpu0"


def test_a_declared_member_that_no_file_has_leaves_its_worker_out() -> None:
    declared = Endpoint("node1/gpu0", "node1", 37081, member="127.0.0.1:9")
    found = joined(workers=(declared,))
    assert found.worker_of["127.0.0.1:37081"] is None
    assert found.doubts == {}


def test_a_living_server_and_a_tunnel_on_one_port_are_not_certain() -> None:
    alive = Endpoint("node1/gpu0", "node1", 37081, alive=True)
    tunnels = (left("127.0.0.1:37081", "127.0.0.1:37081"),)
    assert joined(workers=(alive, *NODE2), node1=tunnels).worker_of["127.0.0.1:37081"] is None
    stopped = Endpoint("node1/gpu0", "node1", 37081, alive=False)
    found = joined(workers=(stopped, *NODE2), node1=tunnels)
    assert found.worker_of["127.0.0.1:37081"] == "node2/gpu0"


def test_two_units_on_one_port_count_as_the_one_that_lives() -> None:
    both = (
        Endpoint("node1/old", "node1", 37081, alive=False),
        Endpoint("node1/new", "node1", 37081, alive=True),
    )
    assert joined(workers=both).worker_of["127.0.0.1:37081"] == "node1/new"
    dead = tuple(Endpoint(one.name, one.node, one.port) for one in both)
    assert joined(workers=dead).worker_of["127.0.0.1:37081"] is None


def test_an_identity_read_through_the_member_settles_a_doubt() -> None:
    known = (
        Endpoint("node2/gpu0", "node2", 37081, alive=True, identity="111"),
        Endpoint("node2/gpu1", "node2", 37082, alive=True, identity="222"),
    )
    found = joined(workers=known, identities={"127.0.0.1:37084": "222"})
    assert found.worker_of["127.0.0.1:37084"] == "node2/gpu1"


def test_a_port_behind_which_another_worker_answers_is_told() -> None:
    known = (
        Endpoint("node2/gpu0", "node2", 37081, alive=True, identity="111"),
        Endpoint("node2/gpu1", "node2", 37082, alive=True, identity="222"),
    )
    way = (left("127.0.0.1:37083", "127.0.0.1:37081"),)
    right = joined(workers=known, identities={"127.0.0.1:37083": "111"}, node1=way)
    assert right.astray == {}
    wrong = joined(workers=known, identities={"127.0.0.1:37083": "222"}, node1=way)
    assert wrong.astray == {"127.0.0.1:37083": "node2/gpu0"}
    assert wrong.worker_of["127.0.0.1:37083"] == "node2/gpu1"
    back = (Tunnel("R", "127.0.0.1:37083", "127.0.0.1:37081", "balancer@198.18.0.11"),)
    turned = joined(workers=known, identities={"127.0.0.1:37083": "222"}, node2=back)
    assert turned.astray == wrong.astray


def test_an_identity_that_differs_unsettles_a_guess() -> None:
    known = (Endpoint("node1/gpu0", "node1", 37081, alive=True, identity="111"),)
    found = joined(workers=known, identities={"127.0.0.1:37081": "999"})
    assert found.worker_of["127.0.0.1:37081"] is None
    assert found.doubts["node1/gpu0"] == LINES[:1]


def test_a_worker_that_was_just_restarted_is_not_unsettled_by_the_reading_before() -> None:
    new = Endpoint("node1/gpu0", "node1", 37081, alive=True, identity="222", identity_since=98.0)
    found = joined(workers=(new,), identities={"127.0.0.1:37081": "111"})
    assert found.worker_of["127.0.0.1:37081"] == "node1/gpu0"


def test_an_identity_that_only_the_node_knows_is_not_compared() -> None:
    local = Endpoint("node1/gpu0", "node1", 37081, alive=True, identity="159:77")
    found = joined(workers=(local,), identities={"127.0.0.1:37081": "111"})
    assert found.worker_of["127.0.0.1:37081"] == "node1/gpu0"


def test_somebody_elses_server_is_nobodys_doubt() -> None:
    found = joined(lines=("10.9.9.9:80", "unix:/run/app.sock"))
    assert found.worker_of == {"10.9.9.9:80": None, "unix:/run/app.sock": None}
    assert found.doubts == {}


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        (["in"], "in"),
        (["in", "in"], "in"),
        (["down"], "down"),
        (["in", "down"], "mixed"),
        (["draining", "down"], "draining"),
        ([], "absent"),
    ],
)
def test_a_workers_membership(states: list[Membership], whole: Membership) -> None:
    assert membership(states) == whole

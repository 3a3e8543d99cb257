"""Which member is which worker, and what others do to nginx behind llamatop's back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.nodes.balancer import UPSTREAM_FILE, Forward, put_balancer, put_tunnel, tunnel_unit
from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.watch import Watch, llamatop

STRAIGHT = {
    "127.0.0.1:37081": "node1/gpu0",
    "127.0.0.1:37082": "node1/gpu1",
    "127.0.0.1:37083": "node2/gpu0",
    "127.0.0.1:37084": "node2/gpu1",
}


@contextmanager
def watching(cluster: Cluster, directory: Path) -> Iterator[Watch]:
    with Watch(cluster.write_files(directory)) as watch:
        watch.wait(
            "all members known",
            lambda s: {address: m["worker"] for address, m in s.members.items()} == STRAIGHT,
        )
        yield watch


def test_workers_on_the_same_port_are_matched_through_their_tunnels(
    empty_cluster: Cluster, tmp_path: Path
) -> None:
    """The tunnels lead crosswise, and every worker of both nodes says 3708[12] of itself."""
    cluster = empty_cluster
    workers = (replace(GPU0, model="tiny"), replace(GPU1, model="tiny"))
    near, far = (cluster.add_node(name, workers) for name in ("node1", "node2"))
    crosswise = [Forward(37083, 37082), Forward(37084, 37081)]
    put_tunnel(near, far, crosswise, cluster.run.keys.known_hosts_text())
    put_balancer(near, list(STRAIGHT))
    cluster.power_on()
    cluster.wait_serving()
    with Watch(cluster.write_files(tmp_path)) as watch:
        sample = watch.wait(
            "all members known", lambda s: all(m["worker"] for m in s.members.values())
        )
        seen = {address: member["worker"] for address, member in sample.members.items()}
        assert seen == {
            **STRAIGHT,
            "127.0.0.1:37083": "node2/gpu1",
            "127.0.0.1:37084": "node2/gpu0",
        }
        # The member itself is the judge: what it generates is counted where it leads to.
        body = '{"prompt":"hi","n_predict":20}'
        request = (
            "POST /completion HTTP/1.0\\r\\nContent-Type: application/json\\r\\n"
            f"Content-Length: {len(body)}\\r\\n\\r\\n{body}".replace('"', '\\"')
        )
        script = f'exec 3<>/dev/tcp/127.0.0.1/37084; printf "{request}" >&3; cat <&3 >/dev/null'
        near.run(["bash", "-c", script])
        after = watch.wait(
            "20 tokens", lambda s: s.worker("node2/gpu0")["generation_tokens_total"] == 20
        )
        assert after.worker("node2/gpu1")["generation_tokens_total"] == 0
    done = llamatop("drain", "node2/gpu0", "--yes", "-c", tmp_path / "cluster.toml")
    assert done.status == 0, done.stderr
    text = near.read(UPSTREAM_FILE)
    assert "server 127.0.0.1:37084 down;" in text
    assert text.count("down") == 1


def test_a_member_edited_by_hand_is_seen_and_a_reload_is_pending(
    cluster: Cluster, tmp_path: Path
) -> None:
    node = cluster["node1"]
    before = node.read(UPSTREAM_FILE)
    with watching(cluster, tmp_path) as watch:
        try:
            node.write(
                UPSTREAM_FILE,
                before.replace("server 127.0.0.1:37082;", "server 127.0.0.1:37082 down;"),
            )
            edited = watch.wait(
                "the edit", lambda s: s.members["127.0.0.1:37082"]["state"] in ("down", "draining")
            )
            assert edited.json["balancer"]["reload_pending"] is True
            assert edited.members["127.0.0.1:37081"]["state"] == "in"
            node.systemctl("reload", "nginx")
            loaded = watch.wait(
                "the reload", lambda s: s.json["balancer"]["reload_pending"] is False
            )
            assert loaded.worker("node1/gpu1")["membership"] == "down"
            assert "in → down" in loaded.told
        finally:
            node.write(UPSTREAM_FILE, before)
            node.systemctl("reload", "nginx")
        watch.wait(
            "all in again",
            lambda s: (
                s.worker("node1/gpu1")["membership"] == "in"
                and s.json["balancer"]["reload_pending"] is False
            ),
        )


def test_a_tunnel_that_is_down_does_not_hide_the_rest(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster["node1"]
    with watching(cluster, tmp_path) as watch:
        node.systemctl("stop", tunnel_unit(cluster["node2"]))
        try:
            down = watch.wait("the tunnel's end", lambda s: tunnel_unit(cluster["node2"]) in s.told)
            for tick in (down, *watch.ticks(3)):
                # Whether 37083 is still held to be node2/gpu0 is a guess now: that or null.
                assert tick.members["127.0.0.1:37083"]["worker"] in ("node2/gpu0", None)
                assert tick.members["127.0.0.1:37081"]["worker"] == "node1/gpu0"
                assert tick.worker("node1/gpu0")["membership"] == "in"
                assert tick.worker("node2/gpu0")["health"] == "ok", "it is read on its own node"
        finally:
            node.systemctl("start", tunnel_unit(cluster["node2"]))
            cluster.wait_serving()
        watch.wait(
            "all members known again",
            lambda s: {address: m["worker"] for address, m in s.members.items()} == STRAIGHT,
        )

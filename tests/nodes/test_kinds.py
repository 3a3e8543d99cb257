"""Nodes of every kind in one cluster: behind a jump host, HTTP alone, little Python, none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.watch import Watch, llamatop

TINY = replace(GPU0, model="tiny")


@pytest.fixture(scope="module")
def kinds(installed: None) -> Iterator[Cluster]:
    """`jump`, `inner` behind it, `mini` with python3-minimal, `bare` without, `edge` over HTTP."""
    with Cluster() as cluster:
        cluster.add_node("jump", (TINY,), bridges_inner=True)
        cluster.add_node("inner", (TINY, replace(GPU1, model="tiny")), jump="jump")
        cluster.add_node("mini", (TINY,), python_minimal=True)
        bare = cluster.add_node("bare", (TINY,))
        for name in ("python3", "python3.11"):
            (bare.root / "usr/bin" / name).unlink()
        cluster.add_http_only("edge")
        cluster.power_on()
        yield cluster


@pytest.fixture(scope="module")
def file(kinds: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kinds.write_files(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def watch(file: Path) -> Iterator[Watch]:
    with Watch(file) as begun:
        begun.wait(
            "every node read or faulted",
            lambda s: all(node["reachable"] or node["fault"] for node in s.json["nodes"]),
        )
        yield begun


def test_a_node_behind_a_jump_host_is_whole(kinds: Cluster, file: Path, watch: Watch) -> None:
    sample = watch.wait(
        "its workers",
        lambda s: [w["health"] for w in s.node("inner")["workers"]] == ["ok", "ok"],
    )
    assert sample.node("inner")["fault"] is None
    assert [card["workers"] for card in sample.node("inner")["gpus"]] == [
        ["inner/gpu0"],
        ["inner/gpu1"],
    ]
    peers = kinds["inner"].run(["ss", "-Htn", "sport", "=", ":22"]).stdout
    assert kinds["jump"].inner_address
    assert kinds["jump"].inner_address in peers, "the connection does not come from the jump host"
    done = llamatop("restart", "inner/gpu1", "--yes", "-c", file)
    assert done.status == 0, done.stderr


def test_losing_the_jump_host_loses_what_is_behind_it(kinds: Cluster, watch: Watch) -> None:
    kinds["jump"].partition()
    try:
        lost = watch.wait("inner is lost", lambda s: s.node("inner")["reachable"] is False, 30)
        assert lost.node("inner")["fault"]
        assert lost.node("mini")["reachable"] is True
    finally:
        kinds["jump"].heal()
    watch.wait("inner is back", lambda s: s.node("inner")["reachable"] is True, 40)


def test_a_node_read_by_http_alone(kinds: Cluster, file: Path, watch: Watch) -> None:
    sample = watch.wait("its worker", lambda s: s.node("edge")["workers"][0]["health"] == "ok")
    node = sample.node("edge")
    assert (node["reachable"], node["fault"], node["gpus"]) == (True, None, [])
    (worker,) = node["workers"]
    assert worker["url"] == f"http://{kinds['edge'].address}:8080"
    assert (worker["engine"], worker["slots_total"]) == ("llama-server", 2)
    assert worker["generation_tokens_per_second"] is not None
    for key in ("unit", "unit_state", "restarts", "main_pid", "since", "gpus"):
        assert worker[key] is None, key
    done = llamatop("restart", worker["name"], "--yes", "-c", file)
    assert done.status not in (0, 70)
    assert "edge" in done.stderr


def test_python3_minimal_shows_what_it_can_and_names_the_rest(watch: Watch) -> None:
    sample = watch.wait("its worker", lambda s: s.node("mini")["workers"])
    node = sample.node("mini")
    (worker,) = node["workers"]
    assert node["reachable"] is True
    assert worker["unit_state"] == "active"
    assert worker["main_pid"]
    assert node["host"]["memory_total_bytes"]
    missing = [key for key in ("health", "slots_total") if worker[key] is None]
    if missing or not node["gpus"]:
        said = f"{node['fault']} {worker['fault']}"
        assert "apt install python3" in said or "apt-get install python3" in said


def test_a_node_without_python_says_how_to_get_it(kinds: Cluster, watch: Watch) -> None:
    node = watch.ticks(1)[0].node("bare")
    assert node["reachable"] is False
    assert "python3" in node["fault"]
    assert "apt-get install python3" in node["fault"]
    others = [n["name"] for n in watch.ticks(1)[0].json["nodes"] if n["reachable"]]
    assert others == ["jump", "inner", "mini", "edge"]

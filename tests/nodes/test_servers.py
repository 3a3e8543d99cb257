"""Workers with a key, asleep and in router mode, each left as it was by being looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nodes.cluster import GPU0, Cluster
from tests.nodes.machine import wait_until
from tests.nodes.watch import Watch, llamatop

KEY = "hunter2-of-the-tests"
LOCKED = replace(
    GPU0,
    unit="llama-server-locked.service",
    port=37081,
    model="tiny",
    environment=("EnvironmentFile=/etc/llama.key",),
)
PLAIN = replace(
    LOCKED,
    unit="llama-server-plain.service",
    port=37084,
    environment=(f"Environment=LLAMA_API_KEY={KEY}",),
)
SLEEPY = replace(
    GPU0,
    unit="llama-server-sleepy.service",
    port=37082,
    model="tiny",
    extra="--sleep-idle-seconds 2",
)
ROUTER = replace(
    GPU0,
    unit="llama-server-router.service",
    port=37083,
    model=None,
    extra="--models-dir /opt/models",
)
WATCHED_SECONDS = 10


@pytest.fixture(scope="module")
def node(installed: None) -> Iterator[Cluster]:
    """One node, `node3`, with a worker of each kind."""
    with Cluster() as cluster:
        machine = cluster.add_node("node3", (LOCKED, SLEEPY, ROUTER, PLAIN))
        # systemd reads it as root; the user whom llamatop is there cannot.
        machine.write("/etc/llama.key", f"LLAMA_API_KEY={KEY}\n", mode=0o600)
        cluster.power_on()
        yield cluster


@pytest.fixture
def file(node: Cluster, tmp_path: Path) -> Path:
    path = node.write_files(tmp_path)
    worker = '[[node.worker]]\nunit = "llama-server-locked"\napi_key_env = "KEY_OF_THE_TESTS"\n'
    path.write_text(path.read_text() + "\n" + worker)
    return path


def test_a_worker_with_a_key_is_read_with_it(file: Path) -> None:
    done = llamatop("status", "--json", "-c", file, environment={"KEY_OF_THE_TESTS": KEY})
    worker = done.sample.worker("node3/locked")
    assert (worker["health"], worker["slots_total"]) == ("ok", 2)
    assert worker["generation_tokens_per_second"] == 0
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("environment", [{"KEY_OF_THE_TESTS": "wrong-key"}, {}])
def test_a_wrong_key_and_none_are_unauthorized(
    node: Cluster, file: Path, environment: dict[str, str]
) -> None:
    done = llamatop("status", "--json", "-c", file, environment=environment)
    worker = done.sample.worker("node3/locked")
    assert worker["health"] == "unauthorized"
    assert "key" in worker["fault"]
    assert "KEY_OF_THE_TESTS" in worker["fault"] + done.sample.told or environment
    assert done.sample.worker("node3/sleepy")["health"] in ("ok", "busy")
    assert KEY not in done.stdout + done.stderr
    assert "wrong-key" not in done.stdout + done.stderr


def test_a_key_that_the_unit_shows_to_everybody_is_used_there(file: Path) -> None:
    done = llamatop("status", "--json", "-c", file)
    worker = done.sample.worker("node3/plain")
    assert (worker["health"], worker["slots_total"]) == ("ok", 2)
    assert KEY not in done.stdout + done.stderr


def test_the_key_is_in_no_command_line(node: Cluster, file: Path) -> None:
    with Watch(file, environment={"KEY_OF_THE_TESTS": KEY}) as watch:
        watch.wait("the worker", lambda s: s.worker("node3/locked")["health"] == "ok")
        lines = node["node3"].run(["ps", "axww", "-o", "args"]).stdout
        assert "python3 -ISB" in lines, "the probe does not run, so nothing was looked at"
        assert KEY not in lines


def asleep(node: Cluster) -> bool:
    status, body = node.worker_get("node3", SLEEPY, "/props")
    return status == 200 and json.loads(body)["is_sleeping"] is True


def test_a_worker_falls_asleep_and_sleeps_on_while_it_is_watched(node: Cluster, file: Path) -> None:
    machine = node["node3"]
    machine.systemctl("restart", SLEEPY.unit)
    node.wait_healthy("node3", SLEEPY)
    with Watch(file) as watch:
        watch.wait("the worker", lambda s: s.worker("node3/sleepy")["health"] == "ok")
        wait_until("it falls asleep while it is watched", lambda: asleep(node), 15)
        cursor = machine.run(["journalctl", "-u", SLEEPY.unit, "-o", "cat"]).stdout
        lines = watch.ticks(WATCHED_SECONDS)
        assert asleep(node)
        journal = machine.run(["journalctl", "-u", SLEEPY.unit, "-o", "cat"]).stdout
        news = journal.removeprefix(cursor).lower()
        assert "exiting sleep" not in news, news
        assert "load" not in news, news
    for line in lines:
        worker = line.worker("node3/sleepy")
        assert worker["health"] == "ok"
        assert worker["slots_total"] == 2
    assert lines[-1].at - lines[0].at > WATCHED_SECONDS - 3


def test_looking_at_a_router_loads_nothing(node: Cluster, file: Path) -> None:
    def models() -> dict[str, str]:
        data = json.loads(node.worker_get("node3", ROUTER, "/models")[1])["data"]
        return {model["id"]: model["status"]["value"] for model in data}

    def processes() -> int:
        return int(node["node3"].run(["pgrep", "-c", "llama-server"]).stdout)

    before, count = models(), processes()
    assert set(before.values()) == {"unloaded"}
    assert count == 4
    with Watch(file) as watch:
        watch.wait("the router", lambda s: s.worker("node3/router")["health"] == "ok")
        watch.ticks(4)
    assert models() == before
    assert processes() == count

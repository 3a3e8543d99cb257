"""Power cuts in the middle of a plan and units that do not stay up, on real machines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from llamatop.model.plan import StepResult
from tests.nodes.cluster import GPU0, GPU1, Cluster, two_by_two
from tests.nodes.load import Load
from tests.nodes.machine import Machine
from tests.nodes.test_kills import ADDRESS, FOLDER, NAME, kill_when, later, told_left
from tests.nodes.test_operate import CONF, console
from tests.nodes.test_roll import WORKER, down, settled, starts

# Found by sudo before the real one; holds the transaction between the swap and the test.
SLOW_TEST = f"""#!/bin/sh
[ "$1" = -t ] && [ -e {FOLDER}/.{NAME}.llamatop-old ] && sleep 600
exec /usr/sbin/nginx "$@"
"""
# From its next start on.
FLAPPING = """[Service]
ExecStartPost=/bin/sh -c '(sleep 3; kill -KILL $MAINPID) &'
"""
# Answers as a llama-server does that never gets its model loaded.
LOADING = """#!/usr/bin/python3
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def own(installed: None) -> Iterator[Cluster]:
    """A 2x2 cluster of this file's own: its machines lose power."""
    with two_by_two() as cluster:
        cluster.power_on()
        cluster.wait_serving()
        yield cluster


@contextmanager
def slow_test(machine: Machine) -> Iterator[None]:
    """`nginx -t` hangs inside a transaction."""
    machine.write("/usr/local/sbin/nginx", SLOW_TEST, mode=0o755)
    try:
        yield
    finally:
        (machine.root / "usr/local/sbin/nginx").unlink()


@contextmanager
def changed(machine: Machine, unit: str, text: str) -> Iterator[None]:
    """A unit with a drop-in, in force at its next start."""
    place = machine.root / f"etc/systemd/system/{unit}.d/test.conf"
    machine.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    machine.systemctl("daemon-reload")
    try:
        yield
    finally:
        place.unlink()
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", unit)


def back(cluster: Cluster, name: str) -> None:
    """The machine with power again, and all that it serves."""
    cluster[name].power_on()
    cluster[name].wait_ready()
    cluster.wait_serving()


async def test_a_node_that_dies_while_its_worker_drains_stays_out_and_is_named(
    own: Cluster, tmp_path: Path
) -> None:
    before = own["node1"].read(CONF)
    since = datetime.now(UTC)
    async with (
        console(own, tmp_path) as at,
        # Long enough that none ends between the reload and the cut.
        Load(own.url, concurrency=12, tokens=(3000, 3000)) as load,
    ):
        while not any(stream.member == ADDRESS for stream in load.streams):
            await load.wait_tokens(1)
        plan = await at.plan("restart", WORKER, timeout_seconds=15.0)
        dead = False

        async def cut_while_draining() -> None:
            nonlocal dead
            async for result in at.operator.execute(plan):
                if result.step.kind == "wait-drained" and result.progress and not dead:
                    dead = True
                    assert result.state == "running", "nothing was under way there"
                    await asyncio.to_thread(own["node2"].cut_power)

        with pytest.raises(PlanFailed, match="node2 does not answer") as caught:
            await cut_while_draining()
        assert f"{WORKER} stays drained, node1 does not reach it at {ADDRESS}" in str(caught.value)
        assert down(own) == [ADDRESS]
        await asyncio.to_thread(back, own, "node2")
        assert (await told_left(at, since)).startswith(f"{WORKER} was left drained by ")
        await settled(at)
        await at.do("recover")
        await load.abandon()
    assert {s.member for s in load.cut} <= {"127.0.0.1:37083", ADDRESS}, "node1 went on"
    assert own["node1"].read(CONF) == before


async def test_a_balancer_that_dies_inside_the_transaction_and_returns_is_asked_again(
    own: Cluster, tmp_path: Path
) -> None:
    node = own["node1"]
    before = node.read(CONF)
    results: list[StepResult] = []
    async with console(own, tmp_path) as at:
        plan = await at.plan("drain", WORKER)
        with slow_test(node):
            running = at.operator.execute(plan)
            async for result in running:
                results.append(result)
                if result.progress == "file written":
                    break
            await asyncio.to_thread(node.cut_power)
        assert down(own) == [ADDRESS], "it was to be between the swap and the test"
        await asyncio.to_thread(back, own, "node1")
        results += [result async for result in running]
        assert {result.state for result in results} == {"running", "done"}
        said = [result.progress for result in results]
        assert any("connection lost" in text for text in said)
        assert "what a killed change left is cleared away" in said
        assert down(own) == [ADDRESS]
        assert node.run(["ls", "-A", FOLDER]).stdout.split() == [NAME]
        await settled(at)
        await at.do("undrain", WORKER)
    assert node.read(CONF) == before


async def test_a_balancer_and_a_llamatop_that_die_together_are_repaired_by_the_next(
    own: Cluster, tmp_path: Path
) -> None:
    node = own["node1"]
    before = node.read(CONF)
    file = str(own.write_files(tmp_path))
    words = ["drain", WORKER, "--yes", "-c", file]
    with slow_test(node):
        await asyncio.to_thread(kill_when, words, lambda said: "file written" in said)
        await asyncio.to_thread(node.cut_power)
    assert down(own) == [ADDRESS]
    await asyncio.to_thread(back, own, "node1")
    assert own.post("/completion", {"prompt": "hi", "n_predict": 5})["content"]
    since = datetime.now(UTC)
    later(node)
    async with console(own, tmp_path) as at:
        assert (await told_left(at, since)).startswith(f"{WORKER} was left drained by ")
        results = await at.do("recover")
        assert results[0].step.title == f"clear away what a killed change left beside {CONF}"
    assert node.read(CONF) == before
    assert node.run(["ls", "-A", FOLDER]).stdout.split() == [NAME]


async def test_a_unit_that_answers_and_dies_again_and_again_stops_the_roll(
    own: Cluster, tmp_path: Path
) -> None:
    before = own["node1"].read(CONF)
    counted = await asyncio.to_thread(starts, own)
    with changed(own["node1"], GPU0.unit, FLAPPING):
        async with console(own, tmp_path) as at:
            with pytest.raises(PlanFailed, match="node1/gpu0") as caught:
                await at.do("roll")
            assert "did not stay so" in str(caught.value) or "starts it again" in str(caught.value)
            now = await asyncio.to_thread(starts, own)
            still = [name for name in now if now[name] == counted[name]]
            assert len(still) >= 1, "the roll went on over all of them"
            assert down(own) in ([], ["127.0.0.1:37081"])
            if down(own):
                assert "node1/gpu0 stays drained" in str(caught.value)
    own.wait_serving()
    if down(own):
        async with console(own, tmp_path) as at:
            await at.do("undrain", "node1/gpu0")
    assert own["node1"].read(CONF) == before


async def test_a_worker_that_says_loading_for_ever_stays_out(own: Cluster, tmp_path: Path) -> None:
    node = own["node1"]
    before = node.read(CONF)
    node.write("/opt/stuck/llama-server", LOADING, mode=0o755)
    start = f"[Service]\nExecStart=\nExecStart=/opt/stuck/llama-server --port {GPU1.port}\n"
    with changed(node, GPU1.unit, start):
        async with console(own, tmp_path) as at:
            plan = await at.plan("roll", "node1/gpu1", "node2/gpu0", timeout_seconds=10.0)
            with pytest.raises(PlanFailed) as caught:
                await at.execute(plan)
        assert "not done after 10 s: active/running, loading" in str(caught.value)
        assert "node1/gpu1 stays drained, it is not healthy" in str(caught.value)
        assert down(own) == ["127.0.0.1:37082"]
    own.wait_serving()
    async with console(own, tmp_path) as at:
        await at.do("recover")
    assert node.read(CONF) == before

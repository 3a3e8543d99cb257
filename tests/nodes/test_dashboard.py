"""The dashboard as the command line composes it, on real machines, driven by its keys."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from llamatop import config
from llamatop.app.app import LlamatopApp
from llamatop.cli import dashboard
from tests.nodes.balancer import UPSTREAM_FILE
from tests.nodes.cluster import GPU1, Cluster
from tests.nodes.load import Load

TARGET = "node2/gpu1"
ADDRESS = "127.0.0.1:37084"


def shown(app: LlamatopApp) -> str:
    """What stands on the screen, a line each."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def until(
    pilot: Pilot[None], app: LlamatopApp, what: str, condition: Callable[[], object]
) -> None:
    """Wait until `condition` holds; the screen is told where it never does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what}: never\n{shown(app)}"
        await asyncio.sleep(0.05)
        await pilot.pause()


@asynccontextmanager
async def opened(
    cluster: Cluster, directory: Path
) -> AsyncIterator[tuple[LlamatopApp, Pilot[None]]]:
    """The dashboard with all workers on it and the cursor on TARGET."""
    declared = config.load(cluster.write_files(directory))
    app = dashboard.composed(declared, theme=None, read_only=False)
    async with app.run_test(size=(160, 50)) as pilot:
        await until(
            pilot,
            app,
            "four workers in",
            lambda: [w.membership for w in app.snapshot.workers] == ["in"] * 4,
        )
        for _ in range(12):
            screen = app.current()
            assert screen
            if screen.targets() == [TARGET]:
                break
            await pilot.press("down")
            await pilot.pause()
        assert screen.targets() == [TARGET], shown(app)
        yield app, pilot


async def carried_out(app: LlamatopApp, pilot: Pilot[None], key: str) -> str:
    """Press a key, read the plan, confirm it, wait for its end; returns what was asked."""
    await pilot.press(key)
    await until(pilot, app, "the plan", lambda: "shall this be done?" in shown(app))
    asked = shown(app)
    await pilot.press("enter")
    await until(
        pilot, app, "the end", lambda: app.plan_run and app.plan_run.stage in ("done", "failed")
    )
    assert app.plan_run
    assert app.plan_run.stage == "done", shown(app)
    await pilot.press("escape")
    await pilot.pause()
    return asked


def row(app: LlamatopApp, name: str) -> str:
    """What the table says of a worker, from its name on."""
    node, short = name.split("/")
    found = re.search(rf"\b{node}\W+{short}\b.*", shown(app))
    return found[0] if found else ""


async def test_d_takes_a_worker_out_and_u_puts_it_back(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster["node1"]
    before = node.read(UPSTREAM_FILE)
    async with opened(cluster, tmp_path) as (app, pilot):
        await pilot.press("d")
        await until(pilot, app, "the plan", lambda: "shall this be done?" in shown(app))
        assert f"server {ADDRESS} down;" in shown(app)
        await pilot.press("escape")
        await pilot.pause()
        assert node.read(UPSTREAM_FILE) == before, "escape does not do it"
        asked = await carried_out(app, pilot, "d")
        assert f"+    server {ADDRESS} down;" in asked
        assert f"server {ADDRESS} down;" in node.read(UPSTREAM_FILE)
        await until(pilot, app, "down on the screen", lambda: "down" in row(app, TARGET))
        await carried_out(app, pilot, "u")
        assert node.read(UPSTREAM_FILE) == before
        await until(pilot, app, "in on the screen", lambda: "down" not in row(app, TARGET))
        assert re.search(r"\bin\b", row(app, TARGET))
        await pilot.press("q")
    assert app.return_code == 0


async def test_r_under_a_streaming_load_cuts_no_stream(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster["node2"]
    before = cluster["node1"].read(UPSTREAM_FILE)
    old = node.systemctl("show", "-p", "MainPID", "--value", GPU1.unit)
    async with (
        opened(cluster, tmp_path) as (app, pilot),
        Load(cluster.url, concurrency=4, tokens=(50, 150)) as load,
    ):
        await load.wait_tokens(100)
        await carried_out(app, pilot, "r")
        assert node.systemctl("show", "-p", "MainPID", "--value", GPU1.unit) != old
        await load.wait_tokens(100)
        await load.finish()
        assert [w.membership for w in app.snapshot.workers] == ["in"] * 4
        await pilot.press("q")
    assert (load.cut, load.failed) == ([], [])
    assert cluster["node1"].read(UPSTREAM_FILE) == before


def test_the_command_draws_on_a_terminal_and_q_ends_it(cluster: Cluster, tmp_path: Path) -> None:
    file = cluster.write_files(tmp_path)
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "llamatop.cli.main", "-c", str(file)],
        stdin=there,
        stdout=there,
        stderr=there,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(there)
    drawn = b""
    try:
        deadline = time.monotonic() + 30
        while not all(name in drawn for name in (b"gpu0", b"gpu1", b"node2", b"restarts")):
            assert time.monotonic() < deadline, drawn[-2000:]
            drawn += _available(here)
        os.write(here, b"q")
        while process.poll() is None:
            assert time.monotonic() < deadline + 10, "q does not end it"
            drawn += _available(here)
    finally:
        process.kill()
        process.wait()
        os.close(here)
    assert process.returncode == 0
    assert b"Traceback" not in drawn


def _available(terminal: int) -> bytes:
    """What the terminal has to read within a tenth of a second."""
    if not select.select([terminal], [], [], 0.1)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        # The other side has closed it.
        return b""

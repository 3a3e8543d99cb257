"""A plan on the command line that is interrupted, ended or hung up on puts back what it changed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Demo, start

SECONDS = 60.0
STEPS = {"drain": 2, "undrain": 2, "roll": 5}
MOMENTS = [(action, step) for action, steps in STEPS.items() for step in range(1, steps + 1)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Two workers that are alike."""
    running = start(tmp_path_factory.mktemp("signals") / "cluster", "--nodes", "1", "--gpus", "2")
    yield running
    running.end()


class Plan:
    """A `llamatop` that carries out a plan, with a terminal for what it says; `text` is that."""

    def __init__(self, demo: Demo, state: Path, *words: str) -> None:
        self._terminal, inside = pty.openpty()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "llamatop.cli.main", *words, "--yes"),
                *("-c", str(demo.directory / "cluster.toml")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=inside,
            env={**os.environ, "XDG_STATE_HOME": str(state)},
        )
        os.close(inside)
        self.text = ""

    def wait(self, words: str) -> None:
        """Wait until it says so, as a regular expression."""
        deadline = time.monotonic() + SECONDS
        while not re.search(words, self.text):
            assert self.hears(deadline - time.monotonic()), f"{words} never came: {self.text}"

    def wait_step(self, number: int) -> None:
        """Wait until a step runs."""
        self.wait(rf"… (\[[^]]*\] )?{number}\. ")

    def hears(self, seconds: float) -> bool:
        """Whether it says anything within so long; what it says goes into `text`."""
        if not select.select([self._terminal], [], [], max(0.0, seconds))[0]:
            return False
        try:
            piece = os.read(self._terminal, 65536).decode("utf-8", "replace")
        except OSError:
            return False
        self.text += piece
        return bool(piece)

    def end(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + SECONDS
        while self.hears(deadline - time.monotonic()):
            pass
        os.close(self._terminal)
        return self.process.wait(SECONDS)


def upstream(demo: Demo) -> str:
    return (demo.directory / "node1/etc/nginx/sites-available/llama").read_text()


def pids(demo: Demo) -> list[str]:
    show = "systemctl show -p MainPID --value llama-server-gpu0 llama-server-gpu1"
    return demo.out("node1", show).split()


def healthy(demo: Demo) -> bool:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "llamatop.cli.main", "status"),
            *("-c", str(demo.directory / "cluster.toml")),
        ],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize(("action", "step"), MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_step_leaves_the_upstream_as_it_was(
    demo: Demo, tmp_path: Path, action: str, step: int, number: signal.Signals
) -> None:
    if action == "undrain":
        drained = Plan(demo, tmp_path, "drain", "node1/gpu0", "--on-timeout", "wait")
        assert drained.end() == 0, drained.text
    before, processes = upstream(demo), pids(demo)
    words = ("roll", "node1/*") if action == "roll" else (action, "node1/gpu0")
    plan = Plan(demo, tmp_path, *words)
    plan.wait_step(step)
    plan.process.send_signal(number)
    status = plan.end()
    try:
        if status == 0:
            # The last step was already done when the signal came.
            assert action != "roll", plan.text
            assert (" down;" in upstream(demo)) is (action == "drain")
        else:
            assert status == 130, plan.text
            assert upstream(demo) == before
        if action != "roll":
            assert pids(demo) == processes
        else:
            assert pids(demo)[1] == processes[1], "the second worker was not begun"
    finally:
        if " down;" in upstream(demo):
            back = Plan(demo, tmp_path, "undrain", "node1/gpu0")
            assert back.end() == 0, back.text
    assert healthy(demo)


def test_ctrl_z_pauses_a_roll_between_workers(demo: Demo, tmp_path: Path) -> None:
    before, processes = upstream(demo), pids(demo)
    plan = Plan(demo, tmp_path, "roll", "node1/*")
    plan.wait_step(1)
    plan.process.send_signal(signal.SIGTSTP)
    plan.wait("pausing after the worker at hand")
    plan.wait("6. .*: paused")
    assert not plan.hears(2.0), plan.text
    assert upstream(demo) == before
    assert pids(demo)[1] == processes[1]
    plan.process.send_signal(signal.SIGCONT)
    plan.wait("going on")
    assert plan.end() == 0, plan.text
    assert upstream(demo) == before
    assert not set(pids(demo)) & set(processes)


def test_undo_takes_back_the_last_drain(demo: Demo, tmp_path: Path) -> None:
    before = upstream(demo)
    drained = Plan(demo, tmp_path, "drain", "node1/gpu1", "--on-timeout", "wait")
    assert drained.end() == 0, drained.text
    assert upstream(demo) != before
    undone = Plan(demo, tmp_path, "undo")
    assert undone.end() == 0, undone.text
    assert upstream(demo) == before

"""An embedded cluster for the tests, started as a person would start it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

READY_SECONDS = 60.0
HANGS_SECONDS = 60.0

Sample = dict[str, Any]


@dataclass
class Demo:
    """A running `llamatop demo --write`."""

    directory: Path
    process: subprocess.Popen[str]

    @property
    def addresses(self) -> dict[str, str]:
        """Each host's address, as ssh_config has it."""
        text = (self.directory / "ssh_config").read_text()
        return dict(re.findall(r'Host "?([\w-]+)"?\n    HostName (\S+)', text))

    def ssh(
        self, node: str, command: str, *options: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The real ssh client."""
        return subprocess.run(
            ["ssh", "-F", str(self.directory / "ssh_config"), *options, node, command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def out(self, node: str, command: str) -> str:
        """Standard output of a command that must succeed."""
        done = self.ssh(node, command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self, number: int = signal.SIGTERM) -> None:
        """Signal it and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait(60)


class Watch:
    """`llamatop watch --json`, read line by line."""

    def __init__(self, demo: Demo) -> None:
        words = [sys.executable, "-m", "llamatop.cli.main", "watch", "--json"]
        self.process = subprocess.Popen(
            [*words, "-c", str(demo.directory / "cluster.toml")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def next(self) -> Sample:
        """The next tick's sample."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "watch ended"
        found: Sample = json.loads(line)
        return found

    def until(self, seen: Callable[[Sample], bool], seconds: float = HANGS_SECONDS) -> Sample:
        """The first sample that shows it."""
        limit = time.monotonic() + seconds
        while not seen(sample := self.next()):
            assert time.monotonic() < limit, "it did not come true"
        return sample

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def start(directory: Path, *words: str) -> Demo:
    """Start one and wait for its line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llamatop.cli.main", "demo", "--write", str(directory), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    came = select.select([process.stdout], [], [], READY_SECONDS)[0]
    line = process.stdout.readline() if came else ""
    if f"-c {directory}/cluster.toml" not in line:
        process.kill()
        pytest.fail(f"the demo did not start: {line!r} {process.stderr.read()}")
    return Demo(directory, process)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that has no event of its own; fails after `seconds`."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come true"
        time.sleep(0.05)


def marked(mark: bytes) -> list[int]:
    """Processes of this machine that carry the mark in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for a module's tests."""
    running = start(tmp_path_factory.mktemp("demo") / "cluster")
    yield running
    running.end()


@pytest.fixture
def own_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos for one test alone."""
    started: list[Demo] = []

    def begin(*words: str) -> Demo:
        started.append(start(tmp_path / f"cluster{len(started)}", *words))
        return started[-1]

    yield begin
    for one in started:
        one.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole clusters take seconds each: `./dev test` runs them, the quick tests leave them out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)

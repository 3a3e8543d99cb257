"""Every fault, side by side in one cluster: seen at once, and gone when it is taken back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from llamatop.demo.kinds import KINDS
from llamatop.demo.switches import Switches

from .conftest import Demo, start

Sample = dict[str, Any]
# Lines after the stroke until it shows; the first may have been on its way.
LINES = 4
# A node is called silent when it has been so for more than three ticks.
SILENT_LINES = 5
# The probe runs nvidia-smi no oftener than it can afford, which depends on this machine.
CARDS = {"hot-gpu", "lost-gpu"}
SECONDS = 60.0


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

    def until(self, seen: Callable[[Sample], bool], seconds: float = SECONDS) -> Sample:
        """The first sample that shows it."""
        limit = time.monotonic() + seconds
        while not seen(sample := self.next()):
            assert time.monotonic() < limit, "it did not come true"
        return sample

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def workers(sample: Sample) -> list[Sample]:
    return [worker for node in sample["nodes"] for worker in node["workers"]]


def gpus(sample: Sample) -> list[Sample]:
    return [gpu for node in sample["nodes"] for gpu in node["gpus"]]


def healths(sample: Sample) -> set[str]:
    return {worker["health"] for worker in workers(sample)}


def silent(node: Sample) -> bool:
    """No figure of it comes any more, and that is said."""
    told = (node["fault"] or "").startswith(("nothing was heard", "its connection", "ssh"))
    return node["age_seconds"] > 2 and (told or not node["reachable"])


SEEN: dict[str, Callable[[Sample], bool]] = {
    "dead-node": lambda s: any(not node["reachable"] for node in s["nodes"]),
    "partition": lambda s: any(node["reachable"] and silent(node) for node in s["nodes"]),
    "loading": lambda s: "loading" in healths(s),
    "crash-loop": lambda s: any(
        worker["restarts"] > 40 and not any(gpu["fault"] for gpu in node["gpus"])
        for node in s["nodes"]
        for worker in node["workers"]
    ),
    "hang-worker": lambda s: "busy" in healths(s),
    "no-metrics": lambda s: any(
        w["health"] == "ok" and w["generation_tokens_total"] is None for w in workers(s)
    ),
    "unauthorized": lambda s: "unauthorized" in healths(s),
    "lost-gpu": lambda s: any("GPU is lost" in (gpu["fault"] or "") for gpu in gpus(s)),
    "hot-gpu": lambda s: any((gpu["temperature_celsius"] or 0) >= 88 for gpu in gpus(s)),
    "nginx-broken": lambda s: s["balancer"]["config_valid"] is False,
    "stale-tunnel": lambda s: any(member["worker"] is None for member in s["balancer"]["members"]),
}


def calm(sample: Sample) -> bool:
    """Everything answers and has a place in the upstream."""
    return bool(
        sample["healthy"]
        and all(node["fault"] is None for node in sample["nodes"])
        and all(worker["membership"] == "in" for worker in workers(sample))
        and not any(seen(sample) for kind, seen in SEEN.items() if kind != "crash-loop")
    )


@pytest.fixture(params=["6", "10"], ids=["probe processes", "probes within"])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """A cluster with victims enough for all; its size decides how its probes run."""
    running = start(tmp_path / "cluster", "--nodes", request.param, "--gpus", "3")
    yield running
    running.end()


@pytest.fixture
def watch(demo: Demo) -> Iterator[Watch]:
    """A dashboard's view of it."""
    watching = Watch(demo)
    yield watching
    watching.end()


def seen_by(watch: Watch, kinds: set[str]) -> dict[str, int]:
    """The number of the line on which each showed, all of them."""
    first: dict[str, int] = {}
    limit = time.monotonic() + SECONDS
    for line in count(1):
        sample = watch.next()
        first |= {kind: line for kind in kinds - first.keys() if SEEN[kind](sample)}
        if first.keys() == kinds:
            assert sample["healthy"] is False
            return first
        assert time.monotonic() < limit, f"never seen: {kinds - first.keys()}"
    raise AssertionError


def test_every_fault_is_seen_at_once_and_so_is_its_end(demo: Demo, watch: Watch) -> None:
    switches = Switches(demo.directory)
    assert [(one.kind, one.on) for one in switches.listed()] == [(kind, False) for kind in KINDS]
    watch.until(calm)
    processes = (demo.directory / "node6/proc/1").exists()
    # Where nginx's file cannot be read nobody knows the members, and so nothing of a tunnel.
    for kinds in (set(KINDS) - {"nginx-broken"}, {"nginx-broken"}):
        switches.write(list(KINDS), kinds)
        lines = seen_by(watch, kinds)
        lines["partition"] = lines.get("partition", 0) - (SILENT_LINES - LINES)
        late = {kind: line for kind, line in lines.items() if line > LINES}
        assert late.keys() <= (CARDS if processes else set()), late
        switches.write(list(KINDS), [])
        watch.until(calm)
    demo.end()
    assert demo.process.stderr is not None
    assert (demo.process.returncode, demo.process.stderr.read()) == (0, "")

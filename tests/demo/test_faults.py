"""Every fault, side by side in one cluster: seen at once, and gone when it is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest

from llamatop.demo.kinds import KINDS
from llamatop.demo.switches import Switches

from .conftest import HANGS_SECONDS, Demo, Sample, Watch, start

# Lines of a node from the switch until a fault on it shows: as a rule, and for every kind. They are
# its own clock, which stands still where this machine is busy: one was on its way, one for the demo
# to bring the fault on, one for a worker to be slow, one to tell.
LINES, MOST_LINES = 3, 5
# Probes that are processes tick on while the demo, which brings the faults on, waits for its turn.
BUSY_LINES, MOST_BUSY_LINES = 4, 20
# No line of the node tells them: two ticks of silence do, on the clock here.
SILENCE = {"dead-node", "partition"}


# Two lines of one node are never so close.
SAME_SECONDS = 0.05


def silent(node: Sample) -> bool:
    """No figure of it comes any more, and that is said."""
    told = (node["fault"] or "").startswith(("nothing was heard", "its connection", "ssh"))
    return node["age_seconds"] > 2 and (told or not node["reachable"])


def has(healths: str) -> Callable[[Sample], bool]:
    """Whether a worker of the node says so of itself."""
    return lambda node: any(worker["health"] == healths for worker in node["workers"])


# By what a node shows each, and what the balancer does.
NODES: dict[str, Callable[[Sample], bool]] = {
    "dead-node": lambda node: not node["reachable"],
    "partition": lambda node: node["reachable"] and silent(node),
    "loading": has("loading"),
    "crash-loop": lambda node: any(
        worker["restarts"] > 40 and not any(gpu["fault"] for gpu in node["gpus"])
        for worker in node["workers"]
    ),
    "hang-worker": has("busy"),
    "no-metrics": lambda node: any(
        w["health"] == "ok" and w["generation_tokens_total"] is None for w in node["workers"]
    ),
    "unauthorized": has("unauthorized"),
    "lost-gpu": lambda node: any("GPU is lost" in (gpu["fault"] or "") for gpu in node["gpus"]),
    "hot-gpu": lambda node: any((gpu["temperature_celsius"] or 0) >= 88 for gpu in node["gpus"]),
}
BALANCER: dict[str, Callable[[Sample], bool]] = {
    "nginx-broken": lambda balancer: balancer["config_valid"] is False,
    "stale-tunnel": lambda balancer: any(one["worker"] is None for one in balancer["members"]),
}


def workers(sample: Sample) -> list[Sample]:
    return [worker for node in sample["nodes"] for worker in node["workers"]]


def shows(sample: Sample, kind: str) -> str | None:
    """The node on which it is to be seen."""
    if kind in BALANCER:
        return sample["balancer"]["node"] if BALANCER[kind](sample["balancer"]) else None
    return next((node["name"] for node in sample["nodes"] if NODES[kind](node)), None)


def calm(sample: Sample) -> bool:
    """Everything answers and has a place in the upstream."""
    return bool(
        sample["healthy"]
        and all(node["fault"] is None for node in sample["nodes"])
        and all(worker["membership"] == "in" for worker in workers(sample))
        and not any(shows(sample, kind) for kind in KINDS if kind != "crash-loop")
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


class Clocks:
    """How many lines of each node have been in what `watch` said."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._received: dict[str, float] = {}

    def see(self, sample: Sample) -> None:
        """Count those that are new in it."""
        taken = datetime.fromisoformat(sample["taken_at"]).timestamp()
        for node in sample["nodes"]:
            received = taken - (node["age_seconds"] or 0.0)
            if received > self._received.get(node["name"], 0.0) + SAME_SECONDS:
                self._received[node["name"]] = received
                self.lines[node["name"]] = self.lines.get(node["name"], 0) + 1


def seen_by(watch: Watch, kinds: set[str]) -> dict[str, tuple[int, int]]:
    """How many lines each took to show, all of them: of `watch`, and of the node."""
    first: dict[str, tuple[int, int]] = {}
    limit = time.monotonic() + HANGS_SECONDS
    clocks, line = Clocks(), 0
    while time.monotonic() < limit:
        sample = watch.next()
        clocks.see(sample)
        line += 1
        for kind in kinds - first.keys():
            node = shows(sample, kind)
            if node is not None:
                first[kind] = line, clocks.lines[node]
        if first.keys() == kinds:
            # A tunnel that leads astray takes a member's worker away, and is no fault of either.
            assert sample["healthy"] is (kinds == {"stale-tunnel"})
            return first
    pytest.fail(f"never seen: {kinds - first.keys()}")


def test_every_fault_is_seen_at_once_and_so_is_its_end(demo: Demo, watch: Watch) -> None:
    switches = Switches(demo.directory)
    assert [(one.kind, one.on) for one in switches.listed()] == [(kind, False) for kind in KINDS]
    watch.until(calm)
    within = not (demo.directory / "node6/proc/1").exists()
    usual, most = (LINES, MOST_LINES) if within else (BUSY_LINES, MOST_BUSY_LINES)
    taken: dict[str, tuple[int, int]] = {}
    # Where nginx's file cannot be read, or nodes are gone, nobody knows where a tunnel leads.
    alone: list[set[str]] = [{"nginx-broken"}, {"stale-tunnel"}]
    together = {kind for kind in KINDS if {kind} not in alone}
    for kinds in (together, *alone):
        switches.write(list(KINDS), kinds)
        seen = seen_by(watch, kinds)
        taken |= seen
        switches.write(list(KINDS), [])
        watch.until(calm)
    print("lines of watch, and of the node, until seen:", taken)
    assert median(lines for _, lines in taken.values()) <= usual
    assert {kind for kind in taken.keys() - SILENCE if taken[kind][1] > most} == set()
    assert {kind for kind in SILENCE if taken[kind][0] > MOST_BUSY_LINES} == set()
    demo.end()
    assert demo.process.stderr is not None
    assert (demo.process.returncode, demo.process.stderr.read()) == (0, "")

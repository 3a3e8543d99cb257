"""Every fault, side by side in one cluster: seen at once, and gone when it is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from llamatop.demo.kinds import KINDS
from llamatop.demo.switches import Switches

from .conftest import HANGS_SECONDS, Demo, Sample, Watch, start

# Lines until it shows, as a rule; the first may have been on its way.
LINES = 4
# What any of them may take where this machine is busy, lines that came late left out.
MOST_LINES = 20
# A line is late where most nodes' figures are older than a tick and a half.
LATE_SECONDS = 1.5
# The probe runs nvidia-smi no oftener than it can afford, which depends on this machine.
CARDS = {"hot-gpu", "lost-gpu"}


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


def in_time(sample: Sample) -> bool:
    """Whether the nodes keep pace: what a busy machine holds up says nothing of the faults."""
    ages = [node["age_seconds"] for node in sample["nodes"] if node["age_seconds"] is not None]
    return bool(median(ages) < LATE_SECONDS)


def seen_by(watch: Watch, kinds: set[str]) -> dict[str, int]:
    """How many lines in time each took to show, all of them."""
    first: dict[str, int] = {}
    limit = time.monotonic() + HANGS_SECONDS
    line = 0
    while time.monotonic() < limit:
        sample = watch.next()
        line += in_time(sample)
        first |= {kind: line for kind in kinds - first.keys() if SEEN[kind](sample)}
        if first.keys() == kinds:
            # A tunnel that leads astray takes a member's worker away, and is no fault of either.
            assert sample["healthy"] is (kinds == {"stale-tunnel"})
            return first
    pytest.fail(f"never seen: {kinds - first.keys()}")


def test_every_fault_is_seen_at_once_and_so_is_its_end(demo: Demo, watch: Watch) -> None:
    switches = Switches(demo.directory)
    assert [(one.kind, one.on) for one in switches.listed()] == [(kind, False) for kind in KINDS]
    watch.until(calm)
    processes = (demo.directory / "node6/proc/1").exists()
    taken: dict[str, int] = {}
    # Where nginx's file cannot be read, or nodes are gone, nobody knows where a tunnel leads.
    alone: list[set[str]] = [{"nginx-broken"}, {"stale-tunnel"}]
    for kinds in (set(KINDS) - set.union(*alone), *alone):
        switches.write(list(KINDS), kinds)
        lines = seen_by(watch, kinds)
        taken |= lines
        late = {kind for kind, line in lines.items() if line > MOST_LINES}
        assert late <= (CARDS if processes else set()), lines
        switches.write(list(KINDS), [])
        watch.until(calm)
    print("lines until seen:", taken)
    assert median(taken.values()) <= LINES
    demo.end()
    assert demo.process.stderr is not None
    assert (demo.process.returncode, demo.process.stderr.read()) == (0, "")

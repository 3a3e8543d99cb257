"""The doctor on real machines: silent where all is well, and exact about what was spoilt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.watch import llamatop

PATHS = [f"/etc/systemd/system/{worker.unit}" for worker in (GPU0, GPU1)]
SPOILT = {
    ("unit-changed", "node1/gpu0"),
    ("process-outdated", "node1/gpu1"),
    ("unit-no-restart", "node2/gpu0"),
    ("unit-not-enabled", "node2/gpu1"),
}


@pytest.fixture
def file(cluster: Cluster, tmp_path: Path) -> Path:
    return cluster.write_files(tmp_path)


@pytest.fixture
def spoilt(cluster: Cluster) -> Iterator[None]:
    """Each worker's unit with a fault of its own; nothing is stopped or restarted."""
    one, two = cluster["node1"], cluster["node2"]
    before = {path: (one.read(path), two.read(path)) for path in PATHS}
    try:
        one.write(PATHS[1], before[PATHS[1]][0].replace("-c 8192", "-c 4096"))
        two.write(PATHS[0], before[PATHS[0]][1].replace("Restart=on-failure\n", ""))
        two.systemctl("disable", GPU1.unit)
        one.systemctl("daemon-reload")
        two.systemctl("daemon-reload")
        one.write(PATHS[0], before[PATHS[0]][0] + "\n# changed\n")
        yield
    finally:
        for path, (first, second) in before.items():
            one.write(path, first)
            two.write(path, second)
        two.enable(GPU1.unit)
        one.systemctl("daemon-reload")
        two.systemctl("daemon-reload")


def doctor(file: Path, status: int) -> dict[str, Any]:
    done = llamatop("doctor", "--json", "-c", str(file))
    assert done.status == status, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["faults"] == []
    return told


def test_a_cluster_that_is_well_gives_no_finding(file: Path) -> None:
    told = doctor(file, 0)
    assert told["findings"] == []
    assert told["rules"] > 0
    done = llamatop("doctor", "-c", str(file))
    assert done.stdout == ""
    assert "nothing found" in done.stderr


def test_what_was_spoilt_is_found_and_nothing_else(file: Path, spoilt: None) -> None:
    told = doctor(file, 1)
    assert {(one["id"], one["place"]) for one in told["findings"]} == SPOILT
    (outdated,) = (one for one in told["findings"] if one["id"] == "process-outdated")
    assert "-c (runs with 8192, now 4096)" in outdated["evidence"]
    assert outdated["worker"] == "node1/gpu1"
    silences = "".join(
        f'[[silence]]\nrule = "{rule}"\nplace = "{place.partition("/")[0]}*"\n'
        for rule, place in SPOILT
    )
    file.write_text(file.read_text() + silences)
    told = doctor(file, 0)
    assert (told["findings"], told["silenced"]) == ([], len(SPOILT))

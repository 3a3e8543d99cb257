"""llamatop itself over the demo: the probe, the collector and the hands, none of which can tell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Demo, until


def llamatop(demo: Demo, *words: str) -> subprocess.CompletedProcess[str]:
    """Run llamatop on the demo's cluster file."""
    return subprocess.run(
        [sys.executable, "-m", "llamatop.cli.main", *words, "-c", demo.directory / "cluster.toml"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def status(demo: Demo) -> dict[str, Any]:
    answer = llamatop(demo, "status", "--json")
    assert answer.returncode in (0, 1), answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def workers(sample: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {worker["name"]: worker for node in sample["nodes"] for worker in node["workers"]}


def test_status_shows_the_whole_cluster(demo: Demo) -> None:
    sample = status(demo)
    assert sample["healthy"] is True
    assert [(node["name"], node["reachable"], node["fault"]) for node in sample["nodes"]] == [
        ("node1", True, None),
        ("node2", True, None),
    ]
    found = workers(sample)
    assert {name: (w["topology"], w["gpus"], w["membership"]) for name, w in found.items()} == {
        "node1/gpu0": ("per-gpu", [0], "in"),
        "node1/gpu1": ("per-gpu", [1], "in"),
        "node2/split0": ("layer-split", [0, 1], "in"),
    }
    assert all(worker["health"] == "ok" for worker in found.values())
    assert [gpu["utilization_percent"] >= 90 for gpu in sample["nodes"][0]["gpus"]] == [True] * 2
    assert all(45 <= gpu["utilization_percent"] <= 56 for gpu in sample["nodes"][1]["gpus"])
    balancer = sample["balancer"]
    assert (balancer["node"], balancer["reload_pending"]) == ("node1", False)
    assert [member["worker"] for member in balancer["members"]] == list(found)
    assert 50 < sample["totals"]["generation_tokens_per_second"] < 500


def test_its_one_piece_of_advice_is_to_part_the_split(demo: Demo) -> None:
    def advised() -> list[tuple[str, str]]:
        found = json.loads(llamatop(demo, "doctor", "--json").stdout)["findings"]
        return [(one["id"], one["place"]) for one in found]

    # The header of the model's file comes a moment after the first figures.
    until(lambda: advised() == [("split-fits-one-card", "node2/split0")])


def test_drain_and_undrain_change_the_real_file_and_are_read_back(demo: Demo) -> None:
    drained = llamatop(demo, "drain", "node1/gpu0", "--yes")
    assert drained.returncode == 0, drained.stderr
    site = (demo.directory / "node1/etc/nginx/sites-available/llama").read_text()
    assert site.count(" down;") == 1
    assert workers(status(demo))["node1/gpu0"]["membership"] == "down"
    back = llamatop(demo, "undrain", "node1/gpu0", "--yes")
    assert back.returncode == 0, back.stderr
    assert workers(status(demo))["node1/gpu0"]["membership"] == "in"


def test_stop_and_start_of_a_worker_are_read_back(demo: Demo) -> None:
    stopped = llamatop(demo, "stop", "node1/gpu1", "--yes", "--now")
    assert stopped.returncode == 0, stopped.stderr
    worker = workers(status(demo))["node1/gpu1"]
    assert (worker["unit_state"], worker["main_pid"]) == ("inactive", None)
    started = llamatop(demo, "start", "node1/gpu1", "--yes")
    assert started.returncode == 0, started.stderr
    assert workers(status(demo))["node1/gpu1"]["health"] == "ok"


def test_a_fault_of_the_command_line_is_there_from_the_start(
    own_demo: Callable[..., Demo],
) -> None:
    demo = own_demo("--fault", "crash-loop", "--fault", "dead-node")
    until(lambda: workers(status(demo))["node1/gpu1"]["restarts"] > 40)
    until(lambda: not status(demo)["nodes"][1]["reachable"])
    demo.end()
    assert demo.process.returncode == 0
    assert demo.process.stderr is not None
    assert demo.process.stderr.read() == ""


def test_a_fault_without_a_victim_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('name = "alone"\n[[node]]\nname = "a"\nssh = "a"\n')
    words = ("--fault", "nginx-broken", "--like", str(file), "--write", str(tmp_path / "demo"))
    refused = subprocess.run(
        [sys.executable, "-m", "llamatop.cli.main", "demo", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert "this cluster has nothing that it could strike; it can have dead-node" in refused.stderr

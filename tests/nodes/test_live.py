"""What llamatop shows of a healthy cluster, held against what the nodes themselves say."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.gpus import P40
from tests.nodes.load import Load
from tests.nodes.watch import Watch, llamatop, unknown

NODES = ("node1", "node2")
WORKERS = {"gpu0": GPU0, "gpu1": GPU1}
LIVE_SECONDS = 3.0


@pytest.fixture(scope="module")
def file(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cluster.write_files(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def watch(file: Path) -> Iterator[Watch]:
    with Watch(file) as begun:
        begun.wait("all figures", lambda sample: not unknown(sample))
        yield begun


def wait_idle(seconds: float = 20.0) -> None:
    """Wait for a moment in which this machine does little else, for so long at most."""

    def idle() -> tuple[int, int]:
        fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
        return fields[3] + fields[4], sum(fields)

    deadline = time.monotonic() + seconds
    share = 0.0
    while share < 0.6 and time.monotonic() < deadline:
        before = idle()
        time.sleep(0.5)
        now = idle()
        share = (now[0] - before[0]) / (now[1] - before[1])


def test_two_nodes_of_two_cards_are_fully_live_within_three_seconds(file: Path) -> None:
    times = []
    # A line comes each second, and the figures are whole just before or after the third.
    for _ in range(3):
        wait_idle()
        with Watch(file) as watch:
            sample = watch.wait("all figures", lambda sample: not unknown(sample))
        cards = [len(sample.node(name)["gpus"]) for name in NODES]
        workers = [worker["name"] for name in NODES for worker in sample.node(name)["workers"]]
        assert cards == [2, 2]
        assert workers == ["node1/gpu0", "node1/gpu1", "node2/gpu0", "node2/gpu1"]
        assert sample.json["healthy"] is True
        assert {member["worker"] for member in sample.members.values()} == set(workers)
        times.append(sample.at - watch.begun)
        if times[-1] <= LIVE_SECONDS:
            break
    print("live after", ", ".join(f"{seconds:.2f} s" for seconds in times))
    assert min(times) <= LIVE_SECONDS


def test_units_are_told_in_systemds_own_words(cluster: Cluster, watch: Watch) -> None:
    (sample,) = watch.ticks(1)
    properties = "ActiveState,SubState,NRestarts,MainPID,ActiveEnterTimestamp"
    for node in NODES:
        for short, declared in WORKERS.items():
            shown = cluster[node].systemctl(
                "show", "--timestamp=unix", "-p", properties, declared.unit
            )
            unit = dict(line.split("=", 1) for line in shown.splitlines())
            worker = sample.worker(f"{node}/{short}")
            assert worker["unit"] == declared.unit
            assert worker["unit_state"] == unit["ActiveState"] == "active"
            assert worker["unit_sub_state"] == unit["SubState"] == "running"
            assert worker["restarts"] == int(unit["NRestarts"])
            assert worker["main_pid"] == int(unit["MainPID"])
            since = datetime.fromisoformat(worker["since"]).timestamp()
            assert abs(since - float(unit["ActiveEnterTimestamp"].removeprefix("@"))) <= 2


def test_workers_are_told_as_their_servers_tell(cluster: Cluster, watch: Watch) -> None:
    (sample,) = watch.ticks(1)
    for node in NODES:
        for short, declared in WORKERS.items():
            slots = json.loads(cluster.worker_get(node, declared, "/slots")[1])
            props = json.loads(cluster.worker_get(node, declared, "/props")[1])
            worker = sample.worker(f"{node}/{short}")
            assert worker["engine"] == "llama-server"
            assert worker["url"] == f"http://127.0.0.1:{declared.port}"
            assert worker["health"] == "ok"
            assert worker["slots_total"] == len(slots) == props["total_slots"]
            assert worker["context_tokens"] == sum(slot["n_ctx"] for slot in slots)
            assert worker["model"] == Path(props["model_path"]).stem
            assert (worker["topology"], worker["gpus"]) == ("per-gpu", [int(declared.gpus)])


async def test_slots_and_rates_move_on_the_workers_that_serve(
    cluster: Cluster, watch: Watch
) -> None:
    async with Load(cluster.url, concurrency=8, tokens=(100, 200)) as load:
        await load.wait_tokens(400)
        sample = await watch.seen(
            "all slots busy and all workers generating",
            lambda sample: (
                sample.json["totals"]["slots_busy"] == 8
                and all(
                    worker["generation_tokens_per_second"] > 0
                    for node in NODES
                    for worker in sample.node(node)["workers"]
                )
            ),
        )
        total = sample.json["totals"]["generation_tokens_per_second"]
        parts = [
            w["generation_tokens_per_second"] for n in NODES for w in sample.node(n)["workers"]
        ]
        assert total == pytest.approx(sum(parts), abs=0.05)
    await watch.seen("all slots idle", lambda sample: sample.json["totals"]["slots_busy"] == 0)


def test_cards_are_told_as_nvidia_smi_tells(cluster: Cluster, watch: Watch) -> None:
    fixed = {0: (77_000, 63, 96, 5 * 2**30), 1: (151_000, 81, 51, 9 * 2**30)}
    gpus = cluster.gpus["node2"]
    for index, (power, celsius, busy, used) in fixed.items():
        gpus.set(index, power=power, temperature=celsius, utilization=busy, memory_used=used)
    try:
        sample = watch.wait("96 %", lambda s: s.gpu("node2", 0)["utilization_percent"] == 96)
        keys = "uuid,name,power.draw,power.limit,temperature.gpu,utilization.gpu"
        asked = f"nvidia-smi --query-gpu={keys},memory.used,memory.total"
        done = cluster["node2"].ssh(f"{asked} --format=csv,noheader,nounits", user="ops")
    finally:
        for index in fixed:
            gpus.set(index, power=None, temperature=None, utilization=None, memory_used=None)
    rows = list(csv.reader(io.StringIO(done.stdout), skipinitialspace=True))
    assert len(rows) == 2
    for index, (uuid, name, power, limit, celsius, busy, used, total) in enumerate(rows):
        card = sample.gpu("node2", index)
        assert (card["uuid"], card["name"]) == (uuid, name)
        assert card["power_watts"] == float(power)
        assert card["power_limit_watts"] == float(limit)
        assert card["temperature_celsius"] == float(celsius)
        assert card["utilization_percent"] == float(busy)
        assert card["memory_used_bytes"] == int(used) * 2**20
        assert card["memory_total_bytes"] == int(total) * 2**20
        assert card["workers"] == [f"node2/gpu{index}"]


def test_the_host_is_told_as_proc_tells(cluster: Cluster, watch: Watch) -> None:
    (sample,) = watch.ticks(1)
    text = cluster["node1"].run(["cat", "/proc/meminfo", "/proc/loadavg"]).stdout
    memory = {name: int(kib) * 1024 for name, kib in re.findall(r"(\w+): +(\d+) kB", text)}
    host = sample.node("node1")["host"]
    assert host["memory_total_bytes"] == memory["MemTotal"]
    used = memory["MemTotal"] - memory["MemAvailable"]
    assert host["memory_used_bytes"] == pytest.approx(used, abs=0.05 * memory["MemTotal"])
    assert host["load1"] == pytest.approx(float(text.splitlines()[-1].split()[0]), abs=2)
    assert 0 <= host["cpu_percent"] <= 100


def test_a_worker_over_two_cards_and_two_workers_on_one(
    empty_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = empty_cluster
    split = replace(GPU0, unit="llama-server-split.service", gpus="0,1", model="tiny")
    left = replace(GPU0, unit="llama-server-left.service", port=37082, gpus="2", model="tiny")
    right = replace(left, unit="llama-server-right.service", port=37083)
    node = cluster.add_node("node3", (split, left, right), (P40, P40, P40))
    cluster.power_on()
    done = llamatop("status", "--json", "-c", cluster.write_files(tmp_path))
    assert done.status == 0, done.stderr
    sample = done.sample
    for name, gpus, topology in (
        ("split", [0, 1], "layer-split"),
        ("left", [2], "shared"),
        ("right", [2], "shared"),
    ):
        worker = sample.worker(f"node3/{name}")
        assert (worker["gpus"], worker["topology"]) == (gpus, topology)
        pid = node.systemctl("show", "-p", "MainPID", "--value", worker["unit"])
        assert worker["main_pid"] == int(pid)
    assert sample.gpu("node3", 0)["workers"] == ["node3/split"]
    assert sample.gpu("node3", 1)["workers"] == ["node3/split"]
    assert sorted(sample.gpu("node3", 2)["workers"]) == ["node3/left", "node3/right"]


def test_the_pids_that_nvml_reports_win_over_the_environment(
    empty_cluster: Cluster, tmp_path: Path
) -> None:
    """CUDA_VISIBLE_DEVICES by UUID: only the driver's process list leads to the right card."""
    cluster = empty_cluster
    node = cluster.add_node("node4", (), (P40, P40))
    uuids = re.findall(r"uuid=(\S+)", node.read("/etc/gpus.conf"))
    cluster.add_worker("node4", replace(GPU0, gpus=uuids[1], model="tiny"))
    cluster.power_on()
    done = llamatop("status", "--json", "-c", cluster.write_files(tmp_path))
    assert done.sample.worker("node4/gpu0")["gpus"] == [1], done.stderr


def test_the_journal_of_a_worker(cluster: Cluster, file: Path) -> None:
    done = llamatop("logs", "node2/gpu1", "-n", "5", "-c", file)
    assert done.status == 0, done.stderr
    journal = cluster["node2"].run(["journalctl", "-u", GPU1.unit, "-n", "200", "-o", "cat"])
    lines = done.stdout.splitlines()
    assert 1 <= len(lines) <= 5
    assert any(text and text in done.stdout for text in journal.stdout.splitlines()[-5:])

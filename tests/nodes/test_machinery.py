"""The machines are what they seem: real systemd, real workers, GPUs that NVML reports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from tests.nodes import leftovers
from tests.nodes.balancer import tunnel_unit
from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.load import Load
from tests.nodes.machine import Machine, wait_until
from tests.nodes.run import Run

_CARDS = """
import json, sys
sys.path.insert(0, "/opt")
import pynvml as n
n.nvmlInit()
cards = []
for index in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(index)
    memory = n.nvmlDeviceGetMemoryInfo(h)
    cards.append({
        "name": n.nvmlDeviceGetName(h), "uuid": n.nvmlDeviceGetUUID(h),
        "total": memory.total, "used": memory.used, "limit": n.nvmlDeviceGetEnforcedPowerLimit(h),
        "power": n.nvmlDeviceGetPowerUsage(h), "busy": n.nvmlDeviceGetUtilizationRates(h).gpu,
        "celsius": n.nvmlDeviceGetTemperatureV(h, n.NVML_TEMPERATURE_GPU),
        "pids": [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
    })
print(json.dumps(cards))
"""


def put_pynvml(machine: Machine) -> None:
    machine.write("/opt/pynvml.py", Path(pynvml.__file__).read_text())


def cards(machine: Machine, user: str = "ops") -> list[dict[str, object]]:
    put_pynvml(machine)
    done = machine.ssh(f"python3 -c '{_CARDS}'", user=user)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def main_pid(machine: Machine, unit: str) -> int:
    return int(machine.systemctl("show", "-p", "MainPID", "--value", unit))


def test_systemd_runs_the_units(cluster: Cluster) -> None:
    for name in ("node1", "node2"):
        node = cluster[name]
        assert node.systemctl("is-active", GPU0.unit, GPU1.unit) == "active\nactive"
        assert node.systemctl("list-units", "--failed", "--no-legend") == ""
        cgroup = node.run(["cat", f"/proc/{main_pid(node, GPU0.unit)}/cgroup"]).stdout
        assert cgroup.count(f"/system.slice/{GPU0.unit}") >= 1


def test_pynvml_sees_two_cards_and_their_processes(cluster: Cluster) -> None:
    seen = [card for name in ("node1", "node2") for card in cards(cluster[name])]
    assert len({card["uuid"] for card in seen}) == 4
    for name, offset in (("node1", 0), ("node2", 2)):
        for index, unit in enumerate((GPU0.unit, GPU1.unit)):
            card = seen[offset + index]
            assert card["pids"] == [main_pid(cluster[name], unit)]
            assert card["name"] == "Tesla P40"
            assert card["total"] == 24 * 2**30
            assert card["limit"] == 250_000
            assert isinstance(card["used"], int)
            assert card["used"] > 20 * 2**20


async def test_requests_reach_all_workers_and_every_token_is_counted(cluster: Cluster) -> None:
    def total(node: str, worker: object) -> int:
        assert worker in (GPU0, GPU1)
        _, text = cluster.worker_get(node, GPU0 if worker == GPU0 else GPU1, "/metrics")
        match = re.search(r"^llamacpp:tokens_predicted_total (\S+)", text, re.MULTILINE)
        assert match
        return int(float(match[1]))

    def totals() -> int:
        return sum(total(node, worker) for node in ("node1", "node2") for worker in (GPU0, GPU1))

    def both_cards_busy() -> bool:
        return all(card["busy"] for card in cards(cluster["node2"]))

    before = totals()
    async with Load(cluster.url, concurrency=8, tokens=(20, 40)) as load:
        await load.wait_tokens(300)
        await asyncio.to_thread(wait_until, "both cards busy", both_cards_busy)
    assert load.failed == []
    assert load.cut == []
    assert set(load.by_member) == {f"127.0.0.1:{port}" for port in range(37081, 37085)}
    assert all(stream.counted == stream.received for stream in load.streams)
    assert totals() - before == load.tokens


async def test_a_stream_that_breaks_is_seen(cluster: Cluster) -> None:
    node = cluster["node1"]
    pid = main_pid(node, GPU0.unit)
    async with Load(cluster.url, concurrency=4, tokens=(300, 300)) as load:
        # Each nginx process counts by itself, so four streams need not reach all four members.
        while not any(s.received and s.member == "127.0.0.1:37081" for s in load.open_streams):
            await load.wait_tokens(20)
        node.systemctl("kill", "--signal=KILL", GPU0.unit)
        await asyncio.to_thread(cluster.wait_healthy, "node1", GPU0)
    assert main_pid(node, GPU0.unit) != pid
    assert {stream.member for stream in load.cut} == {"127.0.0.1:37081"}


def test_nvidia_smi_agrees(cluster: Cluster) -> None:
    node, gpus = cluster["node1"], cluster.gpus["node1"]
    gpus.set(1, power=77_000, temperature=63, utilization=96)
    try:
        query = "--query-gpu=index,uuid,power.draw,temperature.gpu,utilization.gpu,memory.total"
        done = node.ssh(f"nvidia-smi {query} --format=csv,noheader,nounits", user="ops")
        uuid = cards(node)[1]["uuid"]
    finally:
        gpus.set(1, power=None, temperature=None, utilization=None)
    assert done.stdout.splitlines()[1] == f"1, {uuid}, 77.00, 63, 96, 24576"


def test_a_card_can_be_lost_and_fail_call_by_call(cluster: Cluster) -> None:
    node, gpus = cluster["node1"], cluster.gpus["node1"]
    put_pynvml(node)
    ask = (
        "import sys; sys.path.insert(0, '/opt'); import pynvml as n; n.nvmlInit()\n"
        "h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "for call in (n.nvmlDeviceGetPowerUsage, n.nvmlDeviceGetName):\n"
        "    try: print(call(h))\n"
        "    except n.NVMLError as e: print(type(e).__name__)\n"
    )

    def answer() -> list[str]:
        return node.run(["python3", "-c", ask]).stdout.split("\n")

    gpus.set(1, power=77_000)
    assert answer()[:2] == ["77000", "Tesla P40"]
    gpus.set_error(1, "power", pynvml.NVML_ERROR_UNKNOWN)
    assert answer()[:2] == ["NVMLError_Unknown", "Tesla P40"]
    gpus.set_error(1, "power", None)
    gpus.set(1, lost=1)
    assert answer()[:2] == ["NVMLError_GpuIsLost", "NVMLError_GpuIsLost"]
    gpus.set(1, lost=None, power=None)
    assert answer()[1] == "Tesla P40"


def test_nvml_can_hang_and_go_on(cluster: Cluster) -> None:
    node, gpus = cluster["node1"], cluster.gpus["node1"]
    put_pynvml(node)
    gpus.set(0, hang=1)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            node.run(["python3", "-c", _CARDS], timeout=1)
    finally:
        gpus.set(0, hang=None)
    assert len(cards(node)) == 2


def test_a_worker_can_hang_and_go_on(cluster: Cluster) -> None:
    node = cluster["node2"]
    node.freeze(GPU1.unit)
    try:
        script = (
            f"exec 3<>/dev/tcp/127.0.0.1/{GPU1.port}; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3"
        )
        done = node.run(["timeout", "0.5", "bash", "-c", f"{script}; cat <&3"], check=False)
        assert (done.returncode, done.stdout) == (124, "")
    finally:
        node.thaw(GPU1.unit)
    cluster.wait_healthy("node2", GPU1)


def test_systemctl_can_hang_and_go_on(cluster: Cluster) -> None:
    node = cluster["node2"]
    node.freeze_systemd()
    try:
        assert node.ssh("timeout 0.5 systemctl is-active ssh", user="ops").returncode == 124
    finally:
        node.thaw_systemd()
    assert node.ssh("systemctl is-active ssh", user="ops").stdout == "active\n"


def test_who_may_do_what(cluster: Cluster) -> None:
    node = cluster["node1"]
    assert node.ssh("sudo -n id -u", user="admin").stdout == "0\n"
    denied = node.ssh("sudo -n id -u", user="ops")
    assert denied.returncode != 0
    assert "password is required" in denied.stderr


def test_power_is_cut_and_returns(fresh_cluster: Cluster) -> None:
    node1, node2 = fresh_cluster["node1"], fresh_cluster["node2"]
    pid = node1.run(["pgrep", "-u", "tunnel", "-x", "ssh"]).stdout
    node2.cut_power()
    assert not node2.running
    assert leftovers_of(node2) == []
    assert node1.run(["pgrep", "-u", "tunnel", "-x", "ssh"]).stdout == pid, "node1 was told of it"
    wait_until("the tunnel's ssh gives up", lambda: tunnel_ports(node1) == 0)
    node2.power_on()
    node2.wait_ready()
    fresh_cluster.wait_healthy("node2", GPU0)
    fresh_cluster.wait_serving()
    assert (
        fresh_cluster.post("/completion", {"prompt": "a", "n_predict": 3})["tokens_predicted"] == 3
    )


def leftovers_of(machine: Machine) -> list[str]:
    number = int(machine.full_name[2:].partition("-")[0])
    return [t for t in leftovers.traces(number) if machine.full_name in t and "/" not in t]


def tunnel_ports(machine: Machine) -> int:
    return machine.run(["ss", "-Htln"]).stdout.count("127.0.0.1:3708") - 2


def test_a_partition_is_silent_and_heals(fresh_cluster: Cluster) -> None:
    node1, node2 = fresh_cluster["node1"], fresh_cluster["node2"]
    node2.partition()
    began = time.monotonic()
    done = node2.ssh("true", connect=2)
    assert done.returncode == 255
    assert "timed out" in done.stderr
    assert time.monotonic() - began > 1.5, "something answered"
    assert node2.systemctl("is-active", GPU0.unit) == "active"
    assert node2.run(["cat", "/sys/class/net/host0/carrier"]).stdout == "1\n"
    node2.heal()
    wait_until("ssh to node2 works again", lambda: node2.ssh("true").returncode == 0)
    fresh_cluster.wait_serving()
    assert node1.systemctl("is-active", tunnel_unit(node2)) == "active"


def test_a_node_shuts_down_in_order(run: Run) -> None:
    machine = Machine(run, "node1", 11)
    unit = "[Service]\nExecStart=sleep inf\nExecStop=touch /var/log/stopped\n"
    machine.write("/etc/systemd/system/witness.service", unit)
    machine.enable("witness.service")
    machine.power_on()
    machine.wait_ready()
    machine.power_off()
    assert not machine.running
    assert machine.read("/var/log/stopped") == ""


def test_a_worker_that_loads_says_so(empty_cluster: Cluster) -> None:
    slow = replace(GPU0, model="heavy")
    empty_cluster.add_node("node1", ())
    empty_cluster.power_on()
    node = empty_cluster["node1"]
    empty_cluster.add_worker("node1", slow)
    node.systemctl("daemon-reload")
    node.systemctl("start", slow.unit)
    seen: list[tuple[int, str]] = []

    def loaded() -> bool:
        seen.append(empty_cluster.worker_get("node1", slow, "/health"))
        return seen[-1][0] == 200

    wait_until("the heavy model is loaded", loaded, 60)
    loading = [body for status, body in seen if status == 503]
    assert len(loading) >= 5
    assert "Loading model" in loading[0]


def test_a_node_with_python_minimal(empty_cluster: Cluster) -> None:
    empty_cluster.add_node("mini", (replace(GPU0, model="tiny"),), python_minimal=True)
    empty_cluster.power_on()
    done = empty_cluster["mini"].ssh("python3 -c 'import sys; print(1); import json'")
    assert done.stdout == "1\n"
    assert "No module named 'json'" in done.stderr


def test_a_node_behind_a_jump_host(empty_cluster: Cluster) -> None:
    empty_cluster.add_node("jump", (), gpus=None, bridges_inner=True)
    inner = empty_cluster.add_node("inner", (replace(GPU0, model="tiny"),), jump="jump")
    empty_cluster.power_on()
    assert inner.ssh("hostname").stdout == "inner\n"
    direct = subprocess.run(
        ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", inner.address, "true"],
        capture_output=True,
        text=True,
    )
    assert "No route to host" in direct.stderr
    empty_cluster["jump"].cut_power()
    assert inner.ssh("hostname", connect=1).returncode == 255


def test_a_node_read_by_http_alone(empty_cluster: Cluster) -> None:
    url = empty_cluster.add_http_only("edge")
    empty_cluster.power_on()
    with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
        assert json.load(answer) == {"status": "ok"}


def test_another_host_key_is_refused(run: Run) -> None:
    machine = Machine(run, "node1", 11)
    machine.power_on()
    machine.wait_ready()
    assert machine.ssh("true").returncode == 0
    machine.change_host_key()
    refused = machine.ssh("true")
    assert refused.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr


def test_a_killed_run_is_cleaned_up_and_a_live_one_left_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.nodes.cluster", "up", str(tmp_path)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert killed.stdout
    first = killed.stdout.readline()
    assert first == f"llamatop -c {tmp_path / 'cluster.toml'}\n"
    match = re.search(r"198\.18\.(\d+)\.", (tmp_path / "ssh_config").read_text())
    assert match
    number = int(match[1])
    assert number != cluster.run.number, "two runs at once share nothing"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kinds = {trace.split()[0] for trace in leftovers.traces(number)}
    assert kinds == {"process", "cgroup", "mount", "interface", "directory"}
    alive = set(leftovers.traces(cluster.run.number))
    leftovers.remove_dead()
    assert leftovers.traces(number) == []
    after = set(leftovers.traces(cluster.run.number))
    assert {t for t in alive if not t.startswith("process")} <= after
    assert cluster["node1"].ssh("true").returncode == 0

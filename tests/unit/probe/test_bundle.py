"""The real bundle as a real process: what it prints, when, and how it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamatop.probe import bundle

from .node import FakeNode, Running
from .server import Worker

pytestmark = pytest.mark.slow

# Tells what was when it was asked, half a second later.
FORGETFUL_SYSTEMCTL = r"""#!/bin/sh
here=${0%/*}
case "$*" in
show*-new.service*)
    if [ "$(wc -l <"$here/told")" -lt 3 ]; then
        echo again >>"$here/told"
        systemctl-quick "$@" | sed '/^Id=.*-new.service/,/^$/{s/^LoadState=.*/LoadState=not-found/
            /^ExecStart=/d}'
        exit 0
    fi ;;
esac
exec systemctl-quick "$@"
"""
SLOW_SYSTEMCTL = """#!/bin/sh
said=$(systemctl-quick "$@")
sleep 0.5
printf '%s\\n' "$said"
"""
A = "llama-server-gpu0.service"
B = "llama-server-gpu1.service"


def test_a_node_is_told_whole(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    node.process(102, ["ssh", "-NL", "37083:127.0.0.1:37081", "node2"], unit="tunnel.service")
    running = node.start(units=[], workers={}, balancer=None)
    document = running.until(lambda d: A in d["workers"] and "cpu_percent" not in d["faults"])
    assert running.close() == 0
    assert document["host"]["hostname"] == "fake"
    assert document["host"]["memory_used_bytes"] == 600 * 1024
    assert document["host"]["cpu_count"] == 2
    sample = document["workers"][A]
    assert sample["health"] == "ok"
    assert sample["url"] == f"http://127.0.0.1:{worker.port}"
    assert sample["pids"] == [101]
    assert sample["launch"]["cuda_visible_devices"] == "0"
    assert sample["launch"]["source"] == "process"
    assert sample["slots"]["1"] == [True, 2048, 3, 140, 33, 0, 108, 192]
    assert sample["identity"].isdigit()
    assert document["units"][A]["active_state"] == "active"
    assert document["units"][A]["kind"] == "worker"
    assert "memory_bytes" not in document["units"][A]
    assert document["tunnels"]["0"] == {
        "direction": "L",
        "listen": "127.0.0.1:37083",
        "target": "127.0.0.1:37081",
        "destination": "node2",
        "pid": 102,
        "unit": "tunnel.service",
    }
    assert document["faults"] == {}
    assert document["gpus"] == {}


def test_what_the_units_files_say_is_told(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    words = f"/opt/llama-server -m /m.gguf --port {worker.port} -c 4096"
    file = node.root / "a.service"
    file.write_text(f"[Service]\nExecStart={words}\n")
    given = {"FragmentPath": str(file), "Restart": "no", "User": "", "After": "basic.target"}
    node.unit(A, words, 101, DynamicUser="no", **given)
    node.unit("nvidia-persistenced.service", "/usr/bin/nvidia-persistenced", 0)
    line = "/usr/bin/autossh -M 0 -N -o ServerAliveInterval=5 -L 37083:127.0.0.1:37081 node2"
    node.unit("tunnel.service", line, 0, Restart="always", User="tunnel", DynamicUser="no")
    running = node.start(units=[], workers={}, balancer=None)
    document = running.until(
        lambda d: A in d["workers"] and "outdated" in d["workers"][A]["launch"]
    )
    assert running.close() == 0
    told = document["units"][A]
    assert (told["restart_policy"], told["user"], told["after_persistenced"]) == (
        "no",
        "root",
        False,
    )
    assert document["workers"][A]["launch"]["outdated"] == ["-c (runs with none, now 4096)"]
    tunnel = document["units"]["tunnel.service"]
    assert (tunnel["restart_policy"], tunnel["user"]) == ("always", "tunnel")
    assert tunnel["forwards"] == ["L 127.0.0.1:37083"]
    assert tunnel["keepalive"] is True


def test_a_tick_in_which_little_happens_is_a_short_line(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    running = node.start()
    running.until(lambda d: A in d["workers"])
    running.until(lambda d: d["tick"] > 5)
    patch = running.line()
    running.close()
    assert patch is not None
    assert set(patch) <= {"tick", "host", "workers"}
    assert set(patch["workers"][A]) <= {"read_at_seconds", "latency_seconds"}


def test_a_worker_that_hangs_ages_alone_and_the_line_leaves_on_time(
    node: FakeNode, worker: Worker, other: Worker
) -> None:
    node.worker(A, worker.port, 101)
    node.worker(B, other.port, 102)
    worker.hang = {"/props", "/metrics", "/slots", "/health"}
    running = node.start()
    document = running.until(lambda d: d["workers"].get(A, {}).get("health") == "unreachable", 60)
    assert "no answer" in document["workers"][A]["fault"]
    assert document["workers"][B]["health"] == "ok"
    before = len(running.arrivals)
    running.until(lambda d: d["tick"] >= document["tick"] + 10)
    gaps = [
        b - a
        for a, b in zip(running.arrivals[before:], running.arrivals[before + 1 :], strict=False)
    ]
    assert max(gaps) < 1.0, gaps
    assert not [key for key in running.document["ages"] if key.endswith(B)]
    running.close()


def test_who_let_a_whole_read_go_by_is_not_busy_again_with_the_next(
    node: FakeNode, worker: Worker
) -> None:
    node.worker(A, worker.port, 101)
    worker.hang = {"/props", "/slots", "/metrics"}
    running = node.start()

    def health(document: dict[str, Any]) -> object:
        return document["workers"].get(A, {}).get("health")

    running.until(lambda d: health(d) == "unreachable", 60)
    asked = worker.asked.count("/health")
    seen: list[object] = []
    running.until(lambda d: seen.append(health(d)) or worker.asked.count("/health") > asked + 2, 60)
    assert set(seen) == {"unreachable"}
    worker.hang = set()
    running.until(lambda d: health(d) == "ok", 60)
    running.close()


def test_slow_slots_with_a_healthy_health_are_busy_and_keep_their_figures(
    node: FakeNode, worker: Worker
) -> None:
    node.worker(A, worker.port, 101)
    running = node.start()
    running.until(lambda d: d["workers"].get(A, {}).get("health") == "ok")
    worker.hang = {"/slots"}
    worker.asked.clear()
    document = running.until(lambda d: d["workers"][A]["health"] == "busy", 60)
    assert document["workers"][A]["slots_total"] == 4
    assert document["ages"]["workers/" + A] > 0.2
    # one may have been under way
    assert worker.asked.count("/slots") <= worker.asked.count("/metrics") + 1
    running.close()


def test_a_systemctl_that_is_slow_at_first_is_waited_for(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    (node.bin / "systemctl").rename(node.bin / "systemctl-quick")
    slow = f"[ -e {node.root}/quick ] || sleep 6; touch {node.root}/quick"
    node.tool("systemctl", f'#!/bin/sh\n{slow}\nexec systemctl-quick "$@"\n')
    running = node.start()
    document = running.until(lambda d: A in d["workers"] or "units" in d["faults"], 60)
    assert "units" not in document["faults"]
    running.close()


def test_a_hanging_systemctl_delays_nothing_and_is_named(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    running = node.start()
    running.until(lambda d: A in d["workers"])
    (node.root / "hang").touch()
    ticks = running.document["tick"]
    document = running.until(lambda d: "units" in d["faults"], 80)
    assert "systemctl did not end within 5 s" in document["faults"]["units"]
    assert document["ages"]["units"] >= 5
    assert document["tick"] - ticks >= 20
    assert document["workers"][A]["health"] == "ok"
    running.close()


def test_the_end_of_input_ends_it_and_its_children(node: FakeNode) -> None:
    (node.root / "hang").touch()
    running = node.start()
    running.line()
    children = _children(running)
    assert children
    began = time.monotonic()
    assert running.close() == 0
    assert time.monotonic() - began < 30
    assert _all_end(children)


def test_silence_of_five_seconds_ends_it(node: FakeNode) -> None:
    running = node.start()
    began = time.monotonic()
    while running.line() is not None:
        pass
    assert 4.5 < time.monotonic() - began < 60
    assert running.process.wait(30) == 0
    assert running.process.stdin is not None
    running.process.stdin.close()


def test_a_signal_ends_it_and_its_children(node: FakeNode) -> None:
    (node.root / "hang").touch()
    running = node.start()
    running.line()
    children = _children(running)
    running.process.send_signal(signal.SIGHUP)
    assert running.process.wait(30) == 0
    assert _all_end(children)
    running.close()


def test_a_reader_that_stands_still_finds_one_difference_later(
    node: FakeNode, worker: Worker
) -> None:
    for number in range(15):
        node.worker(f"llama-server-{number}.service", worker.port, 101 + number)
    running = node.start(interval=0.1)
    running.until(lambda d: len(d["workers"]) == 15)
    assert running.process.stdout is not None
    fcntl.fcntl(running.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    first, arrived = running.document["tick"], len(running.arrivals)
    running.hold(3.0)
    running.until(lambda d: d["tick"] >= first + 25)
    assert len(running.arrivals) - arrived < 15
    assert set(running.document["workers"]) == set(running.document["units"])
    running.close()


def test_now_asks_systemctl_at_once(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    running = node.start(interval=1.0)
    running.until(lambda d: A in d["workers"])
    node.unit(A, "/opt/llama-server --port 1", 0, active="inactive")
    began = time.monotonic()
    running.send(bundle.now(1))
    running.until(lambda d: d["units"][A]["active_state"] == "inactive", 3)
    assert time.monotonic() - began < 1.9
    assert "health" not in running.document["workers"][A]
    assert running.document["answered"] == 1
    running.close()


def test_a_new_unit_is_seen_soon_though_systemctl_is_asked_all_the_time(
    node: FakeNode, worker: Worker
) -> None:
    node.worker(A, worker.port, 101)
    units = str(node.root / "units")
    running = node.start(interval=0.2, environment={"LLAMATOP_UNITS_DIRECTORY": units})
    running.until(lambda d: A in d["workers"])
    node.unit("llama-server-new.service", "/opt/llama-server --port 1", 0, active="inactive")
    began, asked = time.monotonic(), 0
    while "llama-server-new.service" not in running.document["units"]:
        asked += 1
        running.send(bundle.now(asked))
        running.until(lambda d, asked=asked: d.get("answered") == asked)
    assert time.monotonic() - began < 15, "the next list by itself comes after 30 s"
    running.close()


def test_a_unit_that_systemd_has_not_read_yet_is_asked_for_again(
    node: FakeNode, worker: Worker
) -> None:
    """Listed from the disk, and not found by name: what comes back after it was taken away."""
    node.worker(A, worker.port, 101)
    shutil.move(node.bin / "systemctl", node.bin / "systemctl-quick")
    node.tool("systemctl", FORGETFUL_SYSTEMCTL)
    (node.bin / "told").touch()
    environment = {"LLAMATOP_UNITS_DIRECTORY": str(node.root / "units")}
    running = node.start(interval=0.2, environment=environment)
    running.until(lambda d: A in d["workers"])
    began = time.monotonic()
    node.unit("llama-server-new.service", "/opt/llama-server --port 1", 0, active="inactive")
    running.until(lambda d: "llama-server-new.service" in d["units"])
    assert time.monotonic() - began < 25, "the next list by itself comes after 30 s"
    assert len((node.bin / "told").read_text().split()) >= 3
    running.close()


def test_an_answered_look_is_newer_than_its_request(node: FakeNode, worker: Worker) -> None:
    """However slow systemctl is, and whatever it was asked before."""
    node.worker(A, worker.port, 101)
    shutil.move(node.bin / "systemctl", node.bin / "systemctl-quick")
    node.tool("systemctl", SLOW_SYSTEMCTL)
    running = node.start(interval=0.2)
    running.until(lambda d: A in d["workers"])
    for number in range(1, 6):
        pid = 101 + number
        running.send(bundle.now(100 + number))
        shutil.rmtree(node.proc / str(pid - 1))
        node.worker(A, worker.port, pid)
        running.send(bundle.now(number))
        document = running.until(lambda d, number=number: d.get("answered") == number)
        assert document["units"][A]["main_pid"] == pid
    running.close()


def test_a_worker_that_has_not_answered_since_the_request_shows_its_age(
    node: FakeNode, worker: Worker
) -> None:
    node.worker(A, worker.port, 101)
    running = node.start(interval=3.0)
    running.until(lambda d: d["workers"].get(A, {}).get("health") == "ok")
    running.send(bundle.now(1))
    assert not running.until(lambda d: d.get("answered") == 1).get("ages")
    worker.hang.update(worker.answers)
    running.send(bundle.now(2))
    assert f"workers/{A}" in running.until(lambda d: d.get("answered") == 2)["ages"]
    running.close()


def test_a_restarted_worker_is_a_new_one(node: FakeNode, worker: Worker, other: Worker) -> None:
    node.worker(A, worker.port, 101)
    running = node.start()
    running.until(lambda d: A in d["workers"])
    shutil.rmtree(node.proc / "101")
    node.worker(A, other.port, 202)
    document = running.until(lambda d: d["workers"][A].get("pids") == [202])
    assert document["workers"][A]["url"].endswith(str(other.port))
    running.close()


def test_a_key_goes_to_the_worker_and_nowhere_else(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    running = node.start(workers={A: {"key": "sekret-key"}})
    running.until(lambda d: d["workers"].get(A, {}).get("health") == "ok")
    words = (Path("/proc") / str(running.process.pid) / "cmdline").read_bytes()
    running.close()
    assert all(b"Authorization: Bearer sekret-key" in head for head in worker.heads)
    assert "sekret" not in str(running.document)
    assert b"sekret" not in words


def test_an_error_that_quotes_the_key_does_not_show_it(node: FakeNode, worker: Worker) -> None:
    said = b'{"error":{"message":"bad key: Bearer sekret-key"}}'
    worker.answers["/props"] = b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (
        len(said),
        said,
    )
    node.worker(A, worker.port, 101)
    running = node.start(workers={A: {"key": "sekret-key"}})
    document = running.until(lambda d: d["workers"].get(A, {}).get("fault") is not None)
    running.close()
    assert document["workers"][A]["fault"].endswith("bad key: Bearer ***")


def test_a_declared_unit_that_does_not_exist_is_named(node: FakeNode) -> None:
    running = node.start(workers={"nope.service": {}})
    document = running.until(lambda d: "nope.service" in d["workers"])
    assert document["units"]["nope.service"]["load_state"] == "not-found"
    assert "no such unit" in document["workers"]["nope.service"]["fault"]
    running.close()


def test_a_worker_that_runs_on_without_its_unit_file_stays(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    node.unit(A, "", 101, LoadState="not-found", ExecStart="")
    running = node.start(workers={})
    document = running.until(lambda d: d["workers"].get(A, {}).get("health") == "ok")
    assert document["units"][A]["load_state"] == "not-found"
    assert document["units"][A]["active_state"] == "active"
    running.close()


def test_names_of_any_bytes_arrive(node: FakeNode, worker: Worker) -> None:
    name = "llama-<b>\x1b[31m 'x'.service"
    words = ["/opt/llama-server", "-m", os.fsdecode(b"/m\xff\x1b.gguf"), "--port", str(worker.port)]
    node.process(101, words, unit=name)
    node.unit(name, "/opt/llama-server", 101)
    running = node.start(units=["llama-*"])
    # the stand-in lists names in a line, so that one with a space must be declared
    running.close()
    running = node.start(workers={name: {}})
    document = running.until(lambda d: d["workers"].get(name, {}).get("health") == "ok")
    model = document["workers"][name]["launch"]["model"]
    assert os.fsencode(model) == b"/m\xff\x1b.gguf"
    running.close()


def test_a_model_has_one_name_before_and_after_its_worker_answers(node: FakeNode) -> None:
    node.process(
        101, ["/opt/llama-server", "-m", "/models/tiny.gguf", "--port", "1"], unit="a.service"
    )
    node.unit("a.service", "/opt/llama-server", 101)
    running = node.start(workers={"a.service": {}})
    document = running.until(lambda d: d["workers"].get("a.service", {}).get("launch"))
    assert document["workers"]["a.service"]["model"] == "tiny"
    running.close()


def test_without_systemctl_the_rest_is_told(node: FakeNode) -> None:
    (node.bin / "systemctl").unlink()
    only = node.root / "only"
    only.mkdir()
    (only / "python3").symlink_to(sys.executable)
    running = node.start(environment={"PATH": str(only)}, python=sys.executable)
    document = running.until(lambda d: "units" in d["faults"])
    assert "systemctl is not on PATH" in document["faults"]["units"]
    assert document["host"]["hostname"] == "fake"
    running.close()


NVIDIA_SMI = """#!/bin/sh
case $1 in
*compute-apps*)
    echo 'GPU-1, 101, 200' ;;
*throttle*)
    echo 'Field "clocks_throttle_reasons.active" is not a valid field to query.'
    exit 2 ;;
topo)
    printf '\\t\\033[4mGPU0\\tGPU1\\tCPU Affinity\\tNUMA Affinity\\033[0m\\n'
    printf 'GPU0\\t X \\tPHB\\t0-15\\t0\\nGPU1\\tPHB\\t X \\t0-15\\t0\\n\\nLegend:\\n' ;;
*)
    for index in 0 1; do
    echo "$index, GPU-$((index+1)), Tesla, P40, 97, 20000, 24576, 172.55, 250.00, 68, 1303, 1531,"\\
" 3615, 3615, 3, 3, 16, [N/A], 00000000:0$((3 + index)):00.0, 550.163.01, Enabled, 250.00, 0,"\\
" [N/A], 1, No"
    done ;;
esac
"""


def test_cards_through_nvidia_smi(node: FakeNode) -> None:
    node.tool("nvidia-smi", NVIDIA_SMI)
    running = node.start(environment={"LLAMATOP_GPUS": "nvidia-smi"})
    document = running.until(lambda d: d["gpus"])
    running.close()
    card = document["gpus"]["GPU-1"]
    assert card["name"] == "Tesla, P40"
    assert card["utilization_percent"] == 97
    assert card["memory_used_bytes"] == 20000 * 2**20
    assert card["power_watts"] == 172.6
    assert card["processes"] == {"101": 200 * 2**20}
    assert card["persistence_mode"] is True
    assert card["power_limit_default_watts"] == 250.0
    assert card["ecc_uncorrected"] == 0
    assert card["retired_pages_pending"] is False
    assert "retired_pages" not in card
    assert card["links"] == {"GPU-2": "PHB"}
    assert document["gpus"]["GPU-2"]["links"] == {}
    assert "driver_version" not in card
    assert document["host"]["driver_version"] == "550.163.01"
    assert "pcie_width_max" not in card
    assert "throttle" not in card


def test_nvidia_smi_is_spaced_by_what_it_costs_and_not_by_how_long_it_waits(
    node: FakeNode,
) -> None:
    asked = node.root / "asked"
    query = f"*)\n    echo >> {asked}; sleep 0.7"
    node.tool("nvidia-smi", NVIDIA_SMI.replace("*)\n    for", f"{query}\n    for"))
    running = node.start(environment={"LLAMATOP_GPUS": "nvidia-smi"})
    # By the time that it takes it would come every 70 ticks.
    running.until(lambda d: asked.exists() and len(asked.read_text()) >= 3)
    assert running.close() == 0


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_on_other_pythons(node: FakeNode, worker: Worker, version: str) -> None:
    python = _python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine; `vermin` checks the syntax in any case")
    node.worker(A, worker.port, 101)
    running = Running(node, python=python)
    document = running.until(lambda d: d["workers"].get(A, {}).get("health"))
    assert document["probe"]["python"].startswith(version + ".")
    assert document["workers"][A]["health"] == "ok"
    running.close()


def test_a_python_that_is_too_old_says_so_in_its_only_line(tmp_path: Path) -> None:
    source = bundle.command().argv[3].replace("sys.version_info<(3,8)", "sys.version_info<(9,8)")
    done = subprocess.run([sys.executable, "-c", source, "5"], capture_output=True, check=True)
    assert done.stdout.startswith(b'{"fault":"python3 here is 3.')
    assert done.stdout.count(b"\n") == 1


HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("_json", "ctypes", "_ctypes", "http", "dataclasses"):
            raise ImportError(name, name=name)
        if name == "json" and type(sys.meta_path[0]).__name__ != "Finder":
            raise ImportError(name, name=name)
sys.meta_path.insert(0, Hidden())
"""


def test_a_python_without_json_and_ctypes_is_given_one(node: FakeNode, worker: Worker) -> None:
    node.worker(A, worker.port, 101)
    wrapper = node.bin / "minimal"
    # what stands before the bootstrap hides what python3-minimal lacks
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -ISB -c "$HIDE$3" "$4"\n')
    wrapper.chmod(0o755)
    running = Running(node, python=str(wrapper), environment={"HIDE": HIDE})
    document = running.until(lambda d: A in d["workers"])
    assert document["workers"][A]["health"] == "ok"
    assert document["workers"][A]["slots_total"] == 4
    running.close()


def _python(version: str) -> str | None:
    for root in (Path.home() / ".pyenv/versions",):
        for found in sorted(root.glob(f"{version}.*/bin/python3")):
            return str(found)
    return shutil.which(f"python{version}")


def _children(running: Running) -> list[int]:
    pid = running.process.pid
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _all_end(pids: list[int]) -> bool:
    """Whether all are gone within 3 s: a signal takes a moment on a busy machine."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

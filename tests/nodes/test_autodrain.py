"""--auto-drain on real nodes: dead workers and those of a lost node leave, and come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llamatop.operate.lost import CUT_OFF_SECONDS, LOST_SECONDS
from tests.nodes.cluster import GPU0, GPU1, Cluster
from tests.nodes.network import ip
from tests.nodes.watch import Sample, Watch

HUNG, LOOPING = "node2/gpu1", "node2/gpu0"
DROP_IN = f"/etc/systemd/system/{GPU0.unit}.d/broken.conf"
# Model and port stay: a guard minds the last member of one, and another port is another member.
_COMMAND = (
    "/opt/llama/llama-server --model /opt/models/steady.gguf"
    f" --host 127.0.0.1 --port {GPU0.port} --no-such-flag"
)
BROKEN = f"[Service]\nExecStart=\nExecStart={_COMMAND}\n"
SEEN_SECONDS = 3.0
# What a machine that does much else may add.
NOISE_SECONDS = 3.0


def membership(sample: Sample) -> dict[str, str]:
    return {name: sample.worker(name)["membership"] for name in (HUNG, LOOPING)}


def told_of(sample: Sample, worker: str) -> bool:
    events = [event for event in sample.json["events"] if event["worker"] == worker]
    loud = any(event["severity"] in ("warning", "error") for event in events)
    return loud and bool(sample.worker(worker)["fault"])


def logged(state: Path) -> list[dict[str, Any]]:
    lines = (state / "llamatop/audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@contextmanager
def our_link_cut(cluster: Cluster, node: str) -> Iterator[None]:
    """What we send to the machine goes nowhere; the others reach it."""
    place = (cluster[node].address, "dev", cluster.run.network.bridge)
    nobody = ("lladdr", "02:00:00:00:00:01", "nud", "permanent")
    ip("neighbor", "replace", *place, *nobody)
    try:
        yield
    finally:
        ip("neighbor", "del", *place)


def test_a_hung_and_a_crash_looping_worker_leave_and_come_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    node, file = cluster["node2"], cluster.write_files(tmp_path)
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with Watch(file, "--auto-drain", environment=environment) as watch:
        watch.wait("a healthy cluster", lambda s: s.json["healthy"] is True)
        try:
            begun = time.monotonic()
            node.freeze(GPU1.unit)
            node.write(DROP_IN, BROKEN)
            node.systemctl("daemon-reload")
            node.systemctl("restart", "--no-block", GPU0.unit)
            broken = time.monotonic()
            seen = {
                worker: watch.wait(worker, lambda s, w=worker: told_of(s, w)).at - since  # type: ignore[misc]
                for worker, since in ((HUNG, begun), (LOOPING, broken))
            }
            out = watch.wait("both out", lambda s: set(membership(s).values()) == {"down"}, 120)
            print(f"seen after {seen}, both out {out.at - begun:.1f} s after the first broke")
            assert max(seen.values()) < SEEN_SECONDS + NOISE_SECONDS
            assert out.worker("node1/gpu0")["membership"] == "in"
        finally:
            node.run(["rm", "-f", DROP_IN])
            node.systemctl("daemon-reload")
            node.systemctl("restart", "--no-block", GPU0.unit)
            node.thaw(GPU1.unit)
        well = time.monotonic()
        back = watch.wait("both in", lambda s: set(membership(s).values()) == {"in"}, 120)
        print(f"both in {back.at - well:.1f} s after the mend")
        # Its count of restarts would be a finding for whoever looks next.
        node.systemctl("reset-failed", GPU0.unit)
        assert back.json["healthy"] is True
    audit = logged(tmp_path / "state")
    plans = [entry["plan"] for entry in audit if entry["event"] == "plan"]
    made = [(plan["action"], *plan["targets"]) for plan in plans]
    assert sorted(made) == [
        (action, worker) for action in ("drain", "undrain") for worker in (LOOPING, HUNG)
    ]
    assert all(plan["reason"].startswith("auto-drain: ") for plan in plans)
    assert [entry["ok"] for entry in audit if entry["event"] == "end"] == [True] * 4


def test_a_node_lost_to_the_balancer_too_leaves_and_a_later_llamatop_puts_it_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    node, file = cluster["node2"], cluster.write_files(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"

    def down(sample: Sample) -> bool:
        return set(membership(sample).values()) == {"down"}

    with Watch(file, "--auto-drain", environment={"XDG_STATE_HOME": str(first)}) as watch:
        watch.wait("a healthy cluster", lambda s: s.json["healthy"] is True)
        with our_link_cut(cluster, "node2"):
            lost = watch.wait("the node lost", lambda s: s.node("node2")["reachable"] is False)
            surely = lost.at + LOST_SECONDS + CUT_OFF_SECONDS + 10.0
            kept = watch.wait(
                "time to pass", lambda s: s.node("node2") and time.monotonic() > surely
            )
            assert set(membership(kept).values()) == {"in"}, "node1 reaches them all the while"
            node.cut_power()
            off = time.monotonic()
            out = watch.wait("both out", down, 120)
            print(f"both out {out.at - off:.1f} s after the power cut")
            assert {sample.worker("node1/gpu0")["membership"] for sample in watch.lines} == {"in"}
    drained = [entry["plan"] for entry in logged(first) if entry["event"] == "plan"]
    assert [(plan["action"], plan["targets"]) for plan in drained] == [("drain", [LOOPING, HUNG])]
    node.power_on()
    node.wait_ready()
    with Watch(file, "--auto-drain", environment={"XDG_STATE_HOME": str(second)}) as watch:
        watch.wait("both in", lambda s: set(membership(s).values()) == {"in"}, 120)
        assert "taken out by auto-drain" in watch.lines[-1].told
        watch.wait("a healthy cluster", lambda s: s.json["healthy"] is True)
    back = [entry["plan"] for entry in logged(second) if entry["event"] == "plan"]
    assert sorted((plan["action"], plan["targets"]) for plan in back) == [
        ("undrain", [LOOPING]),
        ("undrain", [HUNG]),
    ]

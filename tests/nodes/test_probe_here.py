"""The program that runs on a node: alone while watched, gone soon after, and small."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.nodes.cluster import Cluster
from tests.nodes.machine import Machine, wait_until
from tests.nodes.watch import Watch

GONE_SECONDS = 12.0
RSS_LIMIT_BYTES = 25_000_000


def probes(machine: Machine) -> list[int]:
    """The probes' pids on the machine; same as `pgrep -f 'python3 -ISB'`."""
    return list(
        map(int, machine.run(["pgrep", "-f", "^[^ ]*python3 -ISB"], check=False).stdout.split())
    )


def admins(machine: Machine) -> str:
    """All that runs as the user whom llamatop is there."""
    listed = machine.run(["ps", "-u", "admin", "-o", "pid=,args="], check=False).stdout
    return "\n".join(
        line for line in listed.splitlines() if "systemd" not in line and "(sd-pam)" not in line
    )


@contextmanager
def watching(cluster: Cluster, directory: Path) -> Iterator[Watch]:
    with Watch(cluster.write_files(directory)) as watch:
        watch.wait("a healthy cluster", lambda s: s.json["healthy"] is True)
        for name in ("node1", "node2"):
            assert len(probes(cluster[name])) == 1
        yield watch


def test_a_killed_llamatop_leaves_nothing_on_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    with watching(cluster, tmp_path) as watch:
        os.kill(watch.process.pid, signal.SIGKILL)
        killed = time.monotonic()
        for name in ("node1", "node2"):
            wait_until(f"no probe on {name}", lambda n=name: not admins(cluster[n]), GONE_SECONDS)
    print(f"gone after {time.monotonic() - killed:.2f} s")


def test_an_interrupted_llamatop_ends_quietly(cluster: Cluster, tmp_path: Path) -> None:
    with watching(cluster, tmp_path) as watch:
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(60) == 130
        assert watch.process.stderr
        assert b"Traceback" not in watch.process.stderr.read()
        for name in ("node1", "node2"):
            wait_until(f"no probe on {name}", lambda n=name: not admins(cluster[n]), GONE_SECONDS)


def test_a_partition_leaves_no_orphan(cluster: Cluster, tmp_path: Path) -> None:
    with watching(cluster, tmp_path) as watch:
        cluster["node2"].partition()
        try:
            cut = time.monotonic()
            wait_until("no probe on node2", lambda: not probes(cluster["node2"]), GONE_SECONDS)
            print(f"gone after {time.monotonic() - cut:.2f} s")
            assert len(probes(cluster["node1"])) == 1
            watch.wait("node2 is lost", lambda s: s.node("node2")["reachable"] is False)
        finally:
            cluster["node2"].heal()
        watch.wait(
            "node2 is back",
            lambda s: s.node("node2")["reachable"] and s.json["healthy"] is True,
            60,
        )
        assert len(probes(cluster["node2"])) == 1
    cluster.wait_serving()


def test_the_probe_is_small(cluster: Cluster, tmp_path: Path) -> None:
    machine = cluster["node1"]

    def proc(pid: int, name: str) -> str:
        return machine.run(["cat", f"/proc/{pid}/{name}"]).stdout

    def cpu(pid: int) -> float:
        fields = proc(pid, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(pid: int) -> int:
        (line,) = [v for v in proc(pid, "status").splitlines() if v.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    with watching(cluster, tmp_path) as watch:
        (pid,) = probes(machine)
        watch.ticks(2)
        used, begun = cpu(pid), time.monotonic()
        watch.ticks(8)
        share = (cpu(pid) - used) / (time.monotonic() - begun)
        print(f"probe: {share:.2%} of a core, {rss(pid) / 1e6:.1f} MB")
        assert rss(pid) < RSS_LIMIT_BYTES

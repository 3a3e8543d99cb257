"""Start-up: help, the first paint, and the figures of four nodes.

Wall times from `exec`, the median of several runs; beside each stands what Python alone takes on
the same machine in the same minute, since these machines are shared and noisy.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
LLAMATOP = [str(Path(sys.executable).with_name("llamatop"))]
CLUSTER = '[[node]]\nname = "here"\nssh = "local"\n'


def wall(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def first_paint(argv: list[str], needle: bytes, columns: int = 120, rows: int = 40) -> float:
    """Seconds from exec until `needle` has been drawn on a terminal of its own."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES=str(rows))
        os.execv(argv[0], argv)
    seen = b""
    try:
        while needle not in seen:
            ready, _, _ = select.select([terminal], [], [], 20)
            if not ready:
                raise TimeoutError(f"{argv} painted nothing in 20 s: {seen[-300:]!r}")
            seen += os.read(terminal, 65536)
        return time.perf_counter() - started
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def four_nodes(folder: Path) -> tuple[float, int]:
    """Seconds until every figure of a demo of four nodes is there, and how many cards it has."""
    demo = subprocess.Popen(
        [*LLAMATOP, "demo", "--nodes", "4", "--write", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert demo.stdout is not None
        demo.stdout.readline()
        times = []
        for _ in range(3):
            started = time.perf_counter()
            watch = subprocess.Popen(
                [*LLAMATOP, "watch", "--json", "-c", str(folder / "cluster.toml")],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert watch.stdout is not None
                for line in watch.stdout:
                    seen = json.loads(line)
                    if complete(seen):
                        times.append(time.perf_counter() - started)
                        break
            finally:
                watch.kill()
                watch.wait()
        return statistics.median(times), sum(len(node["gpus"]) for node in seen["nodes"])
    finally:
        demo.terminate()
        demo.wait()


def complete(status: dict) -> bool:  # type: ignore[type-arg]  # the JSON of CLI.md
    return len(status["nodes"]) == 4 and all(
        node["reachable"]
        and node["gpus"]
        and node["workers"]
        and node["host"]["load1"] is not None
        and all(gpu["utilization_percent"] is not None for gpu in node["gpus"])
        and all(worker["slots_total"] is not None for worker in node["workers"])
        for node in status["nodes"]
    )


def run() -> list[tuple[str, str]]:
    """The figures, name and value."""
    bare = statistics.median(wall([sys.executable, "-c", "pass"]) for _ in range(RUNS))
    helped = statistics.median(wall([*LLAMATOP, "--help"]) for _ in range(RUNS))
    textual = statistics.median(
        wall([sys.executable, "-c", "import textual.app"]) for _ in range(RUNS)
    )
    figures = [
        ("python -c pass", f"{bare:.3f} s"),
        ("python -c 'import textual.app'", f"{textual:.3f} s"),
        ("llamatop --help (target 0.15 s)", f"{helped:.3f} s, {helped / bare:.1f} x python"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cluster.toml")
        file.write_text(CLUSTER)
        painted = statistics.median(
            first_paint([*LLAMATOP, "-c", str(file)], b"workers") for _ in range(RUNS)
        )
        figures.append(
            (
                "first paint (target 0.5 s)",
                f"{painted:.3f} s, {painted / textual:.1f} x importing textual",
            )
        )
        seconds, cards = four_nodes(Path(folder, "demo"))
        figures.append((f"every figure of 4 nodes, {cards} cards (target 2 s)", f"{seconds:.2f} s"))
    return figures

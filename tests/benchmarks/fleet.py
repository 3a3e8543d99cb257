"""A fleet of 64 nodes × 8 cards × 8 workers: the dashboard's cost, beside a llamastat a worker.

FLEET_SECONDS (60) is how long each is measured, FLEET_NODES (64) how many nodes there are.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.terminal import Terminal, cpu_seconds, resident_bytes

SECONDS = float(os.environ.get("FLEET_SECONDS", "60"))
NODES = int(os.environ.get("FLEET_NODES", "64"))
GPUS = 8
PRESSES = int(os.environ.get("FLEET_PRESSES", "200"))
PATIENCE_SECONDS = 120.0
LLAMATOP = str(Path(sys.executable).with_name("llamatop"))

Figures = Iterator[tuple[str, str]]


def run() -> Figures:
    """The figures, name and value."""
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "load of this machine before it began (its cores)", f"{loads} ({os.cpu_count()})"
    with tempfile.TemporaryDirectory(prefix="llamatop-fleet-") as folder:
        words = ["demo", "--nodes", str(NODES), "--gpus", str(GPUS), "--write", folder]
        demo = subprocess.Popen(
            [LLAMATOP, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert demo.stdout is not None
            demo.stdout.readline()
            file = Path(folder, "cluster.toml")
            begun = cpu_seconds(demo.pid), time.monotonic()
            yield from reading(file)
            seen = yield from status(file)
            yield from dashboard(file)
            yield from totals(file, seen)
            yield from llamastat(seen)
            spent, wall = cpu_seconds(demo.pid) - begun[0], time.monotonic() - begun[1]
            yield "the demo itself, meanwhile", share(spent, wall)
        finally:
            demo.terminate()
            demo.wait()


def reading(file: Path) -> Figures:
    """The collector without a face."""
    words = [sys.executable, "-m", "tests.benchmarks.fleet_reading", str(file), str(SECONDS / 2)]
    seen = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    yield "reading alone: first node; all nodes", _arrivals(seen["first"], seen["all"])
    yield "reading alone: processor until all are connected", f"{seen['connecting_cpu']:.2f} s"
    a_line = 1000 * seen["cpu"] / max(1, seen["lines"])
    yield "reading alone", share(seen["cpu"], seen["wall"])
    yield (
        "the same a line of a node, all told",
        f"{a_line:.2f} ms, × {NODES} {a_line * NODES:.0f} ms",
    )
    oldest = seen["oldest"]
    yield (
        "oldest figure as a tick is shown: median; largest (1.5 s)",
        f"{oldest[len(oldest) // 2]:.2f} s; {oldest[-1]:.2f} s",
    )
    yield "threads; file descriptors", f"{seen['threads']}; {seen['descriptors']}"


def status(file: Path) -> Generator[tuple[str, str], None, Any]:
    """`llamatop status`; returns its object."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    words = [LLAMATOP, "status", "--json", "-c", str(file)]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=False).stdout
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield "llamatop status --json", f"{wall:.1f} s, of the processor {spent:.1f} s"
    return json.loads(said)


def dashboard(file: Path) -> Figures:
    """The dashboard as a person has it before them."""
    with Terminal([LLAMATOP, "-c", str(file)], 200, 60) as terminal:
        frame = terminal.shown(rb"nodes", PATIENCE_SECONDS)
        first = terminal.shown(rb"[1-9]\d*/%d nodes" % NODES, PATIENCE_SECONDS)
        everything = terminal.shown(rb"%d/%d nodes" % (NODES, NODES), PATIENCE_SECONDS)
        yield "dashboard, 200x60: first frame (0.5 s)", _arrivals(frame)
        yield "dashboard, 200x60: first node (1 s); all nodes (8 s)", _arrivals(first, everything)
        yield from cost("dashboard, 200x60 (20 %)", terminal)
        times = sorted(presses(terminal))
        yield (
            f"key to paint, {PRESSES} presses: median; 90 %; 99 % (50 ms)",
            "; ".join(
                f"{1000 * times[int(len(times) * part)]:.0f} ms" for part in (0.5, 0.9, 0.99)
            ),
        )


def presses(terminal: Terminal) -> Iterator[float]:
    """Down and up a few rows at moments that have nothing to do with the tick."""
    for number in range(PRESSES):
        time.sleep(random.uniform(0.05, 0.3))
        yield terminal.press(b"j" if number // 10 % 2 == 0 else b"k")


def totals(file: Path, seen: Any) -> Figures:
    """The dashboard where there is room for the totals alone, once all nodes are in them."""
    workers = [worker for node in seen["nodes"] for worker in node["workers"]]
    slots = sum(worker["slots_total"] or 0 for worker in workers)
    with Terminal([LLAMATOP, "-c", str(file)], 60, 7) as terminal:
        terminal.shown(rb"\d/%d\b|fault" % slots, PATIENCE_SECONDS)
        yield from cost("dashboard, 60x7, totals alone (10 %)", terminal)


def cost(name: str, terminal: Terminal, seconds: float = SECONDS) -> Figures:
    """Processor and memory over a while."""
    memory = [resident_bytes(terminal.pid)]
    spent, started = cpu_seconds(terminal.pid), time.monotonic()
    while (wall := time.monotonic() - started) < seconds:
        time.sleep(1)
        memory.append(resident_bytes(terminal.pid))
    yield name, share(cpu_seconds(terminal.pid) - spent, wall)
    yield (
        f"{name.partition(' (')[0]}: memory (250 MB)",
        f"{memory[0] / 1e6:.0f} MB, after {wall:.0f} s {memory[-1] / 1e6:.0f} MB,"
        f" at most {max(memory) / 1e6:.0f} MB",
    )


def llamastat(seen: Any) -> Figures:
    """PyPI's monitor of one llama-server, in an environment of its own, on one of the workers."""
    workers = [worker for node in seen["nodes"] for worker in node["workers"]]
    url = next(worker["url"] for worker in workers if worker["health"] == "ok")
    with tempfile.TemporaryDirectory(prefix="llamastat-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "-q", "--disable-pip-version-check"]
        if subprocess.run([*pip, "install", "llamastat"], check=False).returncode:
            yield "llamastat", "could not be installed"
            return
        with Terminal([f"{folder}/bin/llamastat", "-u", url, "-i", "1"], 120, 40) as terminal:
            terminal.shown(rb"\w", PATIENCE_SECONDS)
            spent, started = cpu_seconds(terminal.pid), time.monotonic()
            time.sleep(SECONDS / 2)
            spent, wall = cpu_seconds(terminal.pid) - spent, time.monotonic() - started
            memory = resident_bytes(terminal.pid)
    count = len(workers)
    yield "llamastat on one worker", f"{share(spent, wall)}, {memory / 1e6:.0f} MB"
    yield (
        f"the same × {count}",
        f"{spent / wall * count:.1f} cores, {memory * count / 1e9:.1f} GB",
    )


def share(spent: float, wall: float) -> str:
    """A part of one core, with the seconds it is of: noise moves those less."""
    return f"{100 * spent / wall:.1f} % of a core ({spent:.2f} s in {wall:.0f} s)"


def _arrivals(*seconds: float | None) -> str:
    return "; ".join("never" if one is None else f"{one:.2f} s" for one in seconds)

"""The probe on a node with 8 busy workers of 4 slots each: processor, memory, bytes a tick.

`fast` workers serve requests of 50 to 400 tokens at 250 tokens a second and slot.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from llamatop.probe import bundle
from tests.unit.probe.node import FakeNode, Running

WORKERS = 8
CARDS = 8
SECONDS = 20
_SYSTEMCTL = """#!/bin/sh
cd {root}/units
if [ "$1" = show ]; then for name in *; do cat "$name"; echo; done; else ls; fi
"""


def run() -> list[tuple[str, str]]:
    """Figures over 20 s at a tick of 1 s, after the first 5."""
    figures = _run(WORKERS)
    for count in (1, WORKERS):
        figures += [(f"{count} fast: {name}", figure) for name, figure in _run(count, "fast")[:-2]]
    return figures


def _run(count: int, *mode: str) -> list[tuple[str, str]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.probe_workers", str(count), *mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as workers,
    ):
        assert workers.stdin is not None
        assert workers.stdout is not None
        node = FakeNode(Path(folder))
        node.tool("systemctl", _SYSTEMCTL.format(root=folder))
        for number, port in enumerate(workers.stdout.readline().split()):
            node.worker(f"llama-server-gpu{number}.service", int(port), 101 + number)
        cards, environment = _cards(node)
        counter = itertools.count()
        probe = node.start(interval=1.0, environment=environment)
        figures = _measure(probe, count, cards, lambda: _work(node, cards, next(counter)))
        workers.stdin.close()
    return figures


def _measure(
    probe: Running, count: int, cards: int, change: Callable[[], None]
) -> list[tuple[str, str]]:
    full = probe.line()
    assert full is not None
    probe.until(lambda d: d["tick"] >= 5)
    pid = probe.process.pid
    sizes: list[int] = []
    glances = 0
    began, before, first = time.monotonic(), _processor(pid), probe.document["tick"]
    while probe.document["tick"] - first < SECONDS:
        patch = probe.line()
        assert patch is not None
        sizes.append(len(_line(patch)))
        told = patch.get("workers", {}).values()
        glances += sum(len(worker.get("glances") or ()) for worker in told)
        probe.send(bundle.beat(1))
        change()
    used = (_processor(pid) - before) / (time.monotonic() - began)
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
    assert len(probe.document["workers"]) == count
    assert all(len(w["slots"]) == 4 for w in probe.document["workers"].values())
    assert len(probe.document["gpus"]) == cards
    probe.close()
    with_cards = f", {cards} cards" if cards else ", no cards (the stand-in NVML is not built)"
    return [
        (f"processor, share of one core{with_cards}", f"{100 * used:.2f} %  (goal < 1 %)"),
        ("resident memory", f"{memory:.1f} MB  (goal < 25 MB)"),
        ("bytes a tick, mean", f"{sum(sizes) / len(sizes):.0f}  (goal < 4096)"),
        ("bytes a tick, largest", f"{max(sizes)}  (goal < 4096)"),
        ("reads of slots between ticks, a tick", f"{glances / len(sizes):.1f}"),
        ("bytes of the first line, the only full one", f"{len(_line(full))}"),
        ("bytes sent to start it", f"{len(bundle.payload())}"),
    ]


def _line(patch: dict[str, object]) -> bytes:
    from llamatop.probe import wire

    return wire.line(patch)


def _processor(pid: int) -> float:
    """Seconds of processor time of all threads, to the nanosecond; not of systemctl's runs."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def _cards(node: FakeNode) -> tuple[int, dict[str, str]]:
    """A stand-in NVML with 8 cards, where the real-node tests have built theirs."""
    found = sorted(Path("/var/cache/llamatop-tests").glob("nvml-*/libnvidia-ml.so.1"))
    if not found:
        return 0, {}
    (node.root / "libnvidia-ml.so.1").symlink_to(found[-1])
    _work(node, CARDS, 0)
    empty = node.root / "processes"
    empty.write_text("")
    conf = node.root / "gpus.conf"
    return CARDS, {"LLAMATOP_GPUS_CONF": str(conf), "LLAMATOP_GPUS_PROCESSES": str(empty)}


def _work(node: FakeNode, cards: int, tick: int) -> None:
    """Every card draws another power and is used a little more or less at every tick."""
    lines = []
    for card in range(cards):
        lines += [
            f"{card}.uuid=GPU-{card:08d}-0000-0000-0000-000000000000",
            f"{card}.name=Tesla P40",
            f"{card}.memory_total={24 * 2**30}",
            f"{card}.memory_used={20 * 2**30}",
            f"{card}.power_limit=250000",
            f"{card}.power={170000 + 700 * (tick % 40)}",
            f"{card}.utilization={90 + tick % 7}",
            f"{card}.temperature={60 + tick // 4 % 9}",
        ]
    new = node.root / "gpus.new"
    new.write_text("\n".join(lines) + "\n")
    new.replace(node.root / "gpus.conf")

"""The dashboard alone with 64 nodes of 8 cards and 8 workers: processor a tick, key to paint.

The app runs over snapshots made beforehand, on a terminal of its own; what collects them is not in
these figures.
"""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import select
import signal
import statistics
import struct
import sys
import termios
import time
from collections.abc import Iterator

NODES, CARDS = 64, 8
SECONDS = 20
PAGE_DOWN, PAGE_UP, RIGHT, LEFT, ESCAPE = b"\x1b[6~", b"\x1b[5~", b"\x1b[C", b"\x1b[D", b"\x1b"
KEYS = (
    *(b"j", b"k", PAGE_DOWN, PAGE_UP, b"j", RIGHT, b"j", LEFT, b"*", PAGE_DOWN, b"*", b"g"),
    *(b"/", b"n", b"o", b"d", b"e", b"5", ESCAPE),
)


def child() -> None:
    """Show the fleet, a tick a second; with one more argument say what that cost, and end."""
    from llamatop.app.judging import Judging
    from tests.screens.clusters import fleet
    from tests.screens.stage import Stage

    made = [fleet(NODES, CARDS, tick) for tick in range(40, 46)]

    class Runner(Stage):
        def on_ready(self) -> None:
            # Tests do not wait for findings as a person does.
            self.judging.pause_seconds = Judging.pause_seconds
            self.made = 0
            self.set_interval(1.0, self.push)

        def push(self) -> None:
            self.made += 1
            if self.made == 4:
                self.begun = time.process_time()
            if self.made == 4 + SECONDS and len(sys.argv) > 2:
                spent = time.process_time() - self.begun
                kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                self.exit(message=f"SPENT {spent / SECONDS} {kib // 1024}")
                return
            self.fake.history.ticks += 1
            self.fake.push(made[self.made % len(made)])

    Runner(made[0], clock=time.monotonic).run()


class Terminal:
    """The app on a terminal of `columns` × `rows`."""

    def __init__(self, columns: int, rows: int, *words: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            argv = [sys.executable, "-m", "tests.benchmarks.screen", "child", *words]
            os.execv(argv[0], argv)
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds: float) -> bytes:
        """What comes next, empty where nothing comes in that time or the app has ended."""
        ready, _, _ = select.select([self.end], [], [], seconds)
        try:
            return os.read(self.end, 1 << 20) if ready else b""
        except OSError:
            return b""

    def quiet(self, seconds: float) -> None:
        """Read on until nothing comes for so long, or for a second."""
        until = time.monotonic() + 1.0
        while self.read(seconds) and time.monotonic() < until:
            pass

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.end)


def processor(columns: int, rows: int) -> tuple[float, int]:
    """Seconds of processor a tick, and MiB of memory at the most."""
    terminal = Terminal(columns, rows, "ticks")
    seen = b""
    try:
        while b"SPENT" not in seen or b"\n" not in seen.partition(b"SPENT")[2]:
            came = terminal.read(60)
            if not came:
                raise RuntimeError(f"the app ended early: {seen[-500:]!r}")
            seen = (seen + came)[-100_000:]
    finally:
        terminal.close()
    spent, memory = seen.partition(b"SPENT")[2].split()[:2]
    return float(spent), int(memory)


def keys(columns: int, rows: int, rounds: int = 12) -> list[float]:
    """Seconds from a key to the first of what it paints, ticks coming in meanwhile."""
    terminal = Terminal(columns, rows)
    taken = []
    try:
        while "▸".encode() not in terminal.read(60):
            pass
        for _ in range(rounds):
            for key in KEYS:
                terminal.quiet(0.05)
                begun = time.perf_counter()
                os.write(terminal.end, key)
                # A lone escape is waited for, as it may begin another key.
                if terminal.read(2) and key != ESCAPE:
                    taken.append(time.perf_counter() - begun)
    finally:
        terminal.close()
    return taken


def run() -> Iterator[tuple[str, str]]:
    """The figures."""
    for columns, rows in ((200, 60), (80, 24), (20, 6)):
        spent, memory = processor(columns, rows)
        yield f"{columns} × {rows}: processor a tick of 1 s", f"{spent:.1%}, {memory} MiB"
    taken = sorted(keys(200, 60))
    p99 = taken[min(len(taken) - 1, round(len(taken) * 0.99))]
    middle = statistics.median(taken)
    yield "200 × 60: key to paint", f"{middle:.3f} s median, {p99:.3f} s p99 of {len(taken)}"


if __name__ == "__main__" and sys.argv[1:2] == ["child"]:
    child()

"""A program on a terminal of its own, watched from outside: what it paints, when, and its cost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from types import TracebackType
from typing import Self

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;?<>=]*[a-zA-Z]|[\]P^_].*?(?:\x07|\x1b\\)|[()].|.)", re.DOTALL
)
_KEPT_BYTES = 400_000
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, as /proc/PID/stat has it."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * _PAGE


class Terminal:
    """Runs `argv` on `columns` by `rows`; a thread reads what it paints, as a terminal would."""

    def __init__(self, argv: list[str], columns: int, rows: int) -> None:
        self.started = time.monotonic()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._news = threading.Condition()
        self._painted = 0
        self._painted_at = self.started
        self._raw = b""
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            with self._news:
                self._painted += 1
                self._painted_at = time.monotonic()
                self._raw = (self._raw + data)[-_KEPT_BYTES:]
                self._news.notify_all()
            if not data:
                return

    def shown(self, pattern: bytes, seconds: float) -> float:
        """Seconds from the start until `pattern` was painted; raises TimeoutError."""
        until = time.monotonic() + seconds
        with self._news:
            while not re.search(pattern, _ESCAPES.sub(b"", self._raw)):
                left = until - time.monotonic()
                if left <= 0 or self.process.poll() is not None or not self._news.wait(left):
                    end = _ESCAPES.sub(b"", self._raw)[-300:]
                    raise TimeoutError(f"{pattern!r} was not painted; the last was {end!r}")
            return self._painted_at - self.started

    def press(self, key: bytes, patience: float = 5.0) -> float:
        """Seconds until something is painted after a key; the program is at rest before it."""
        with self._news:
            while self._news.wait(0.02):
                pass
            before = self._painted
            pressed = time.monotonic()
            os.write(self._master, key)
            if not self._news.wait_for(lambda: self._painted > before, patience):
                return patience
            return self._painted_at - pressed

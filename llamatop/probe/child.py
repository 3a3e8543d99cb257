"""A short program on the node (systemctl, nginx -V, nvidia-smi), run beside the loop."""

from __future__ import annotations

import os
import subprocess
import time

from . import reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Set

_MOST_BYTES = 8 * 2**20
_running: Set[subprocess.Popen[bytes]] = set()


class Ended:
    """How a program ended; `error` is one clause, None where its status was 0.

    `complaint` is the end of its standard error, `seconds` how long it took and `cost_seconds` the
    processor's time among that; `late` one that was killed at its deadline.
    """

    __slots__ = (
        "complaint",
        "cost_seconds",
        "error",
        "late",
        "missing",
        "output",
        "seconds",
        "status",
    )

    def __init__(
        self,
        status: int,
        output: bytes,
        error: str | None,
        seconds: float,
        missing: bool = False,
        complaint: bytes = b"",
        late: bool = False,
        cost_seconds: float | None = None,
    ) -> None:
        self.cost_seconds = seconds if cost_seconds is None else cost_seconds
        self.status = status
        self.output = output
        self.error = error
        self.seconds = seconds
        self.missing = missing
        self.complaint = complaint
        self.late = late


class Child:
    """Runs `argv` with a deadline and calls `done` once, from the loop, with how it ended.

    With `both` the output holds standard error too; otherwise its last line goes into the error.
    """

    def __init__(
        self,
        loop: reactor.Reactor,
        argv: Sequence[str],
        deadline_seconds: float,
        done: Callable[[Ended], None],
        both: bool = False,
    ) -> None:
        self._loop = loop
        self._name = argv[0]
        self._done = done
        self._limit = deadline_seconds
        self._parts: list[bytes] = []
        self._complaint = b""
        self._size = 0
        self._started = time.monotonic()
        self._open = 0
        self._process: Any = None
        environment = dict(os.environ, LC_ALL="C", SYSTEMD_COLORS="0", SYSTEMD_PAGER="")
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if both else subprocess.PIPE,
                env=environment,
                close_fds=True,
            )
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "is not on PATH" if missing else "does not run: %s" % error.strerror
            ended = Ended(-1, b"", "%s %s" % (self._name, reason), 0.0, missing)
            loop.at(self._started, lambda: done(ended))
            return
        _running.add(self._process)
        self._timer = loop.at(self._started + deadline_seconds, self._late)
        self._watch(self._process.stdout, self._output)
        if self._process.stderr is not None:
            self._watch(self._process.stderr, self._complain)

    def _watch(self, pipe: Any, call: Callable[[Any, bytes], None]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._open += 1
        self._loop.watch(pipe.fileno(), reactor.READ, lambda mask: self._read(pipe, call))

    def _read(self, pipe: Any, call: Callable[[Any, bytes], None]) -> None:
        try:
            data = os.read(pipe.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            call(pipe, data)
            return
        self._loop.forget(pipe.fileno())
        pipe.close()
        self._open -= 1
        if not self._open:
            self._reap()

    def _output(self, pipe: Any, data: bytes) -> None:
        self._size += len(data)
        if self._size <= _MOST_BYTES:
            self._parts.append(data)

    def _complain(self, pipe: Any, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-1000:]

    def _reap(self) -> None:
        before = _children_seconds()
        status = self._process.poll()
        if status is None:
            if time.monotonic() < self._started + self._limit:
                self._loop.at(time.monotonic() + 0.002, self._reap)
            return
        self._end(status, None, _children_seconds() - before)

    def _late(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                self._loop.forget(pipe.fileno())
                pipe.close()
        self._loop.at(time.monotonic() + 0.05, self._process.poll)
        error = "%s did not end within %g s" % (self._name, self._limit)
        self._end(-9, error, late=True)

    def _end(
        self, status: int, error: str | None, cost: float | None = None, late: bool = False
    ) -> None:
        self._timer.cancel()
        _running.discard(self._process)
        if error is None and status != 0:
            lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
            last = lines[-1][:300] if lines else "no message"
            error = "%s ended with status %d: %s" % (self._name, status, last)
        output = b"".join(self._parts)
        seconds = time.monotonic() - self._started
        complaint = self._complaint
        self._done(
            Ended(
                status,
                output,
                error,
                seconds,
                complaint=complaint,
                late=late,
                cost_seconds=cost,
            )
        )


def _children_seconds() -> float:
    """Processor time of the children that have been waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system


def end_all() -> None:
    """Kill what still runs, so that the probe leaves nothing behind."""
    for process in list(_running):
        try:
            process.kill()
        except OSError:
            pass

"""The probe's loop: starts every part at a tick and prints on time whatever hangs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from . import child, tunnels, wire
from .balancer import Balancer
from .gpus import Gpus
from .host import Host
from .kernel_log import KernelLog
from .members import Members
from .models import Models
from .processes import Processes
from .reactor import READ, WRITE, Reactor
from .units import Units
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

_SILENCE_SECONDS = 5.0
_SCAN_EVERY = 5.0
# the share of a tick, and the time, that the line may wait for answers
_PATIENCE_SHARE = 0.4
_PATIENCE_SECONDS = 0.35
_MOST_INPUT_BYTES = 2**20


class Loop:
    """Everything between the first line of input and the end."""

    def __init__(self, version: str) -> None:
        self._reactor = Reactor()
        self._processes = Processes()
        self._host = Host(KernelLog(self._reactor))
        self._units = Units(self._reactor, self._units_changed)
        self._workers = Workers(self._reactor, self._units, self._processes, self._units.refresh)
        self._gpus = Gpus(self._reactor)
        self._models = Models()
        self._balancer: Balancer | None = None
        self._members = Members(self._reactor)
        self._tunnels: Dict[str, Any] = {}
        self._tick = 0
        self._interval = 1.0
        self._configured = False
        self._heard_at = time.monotonic()
        self._input = b""
        self._unsent = b""
        self._sent: Dict[str, Any] = {}
        self._scan_at = 0.0
        self._now = False
        # requests for a look that is newer than they are, with when they came
        self._asked: List[Tuple[int, float]] = []
        self._answered: int | None = None
        self._ended = False
        self._began = False
        self._probe = {"version": version, "python": "%d.%d.%d" % sys.version_info[:3]}

    def run(self) -> None:
        """Until the input ends, is silent for 5 s, or the output breaks."""
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self._reactor.watch(0, READ, self._readable)
        next_tick = time.monotonic()
        while not self._ended:
            now = time.monotonic()
            if self._configured and (now >= next_tick or self._now):
                fresh, self._now = self._now or self._tick == 0, False
                self._one_tick(now, fresh)
                # a late tick is skipped, not made up for
                if now >= next_tick:
                    next_tick += self._interval
                next_tick = max(next_tick, now + 0.5 * self._interval)
                continue
            until = min(next_tick if self._configured else now + 1, now + 1)
            self._reactor.turn(until)
            if time.monotonic() - self._heard_at > _SILENCE_SECONDS:
                self._readable(0)
                if time.monotonic() - self._heard_at > _SILENCE_SECONDS:
                    self._ended = True

    def _one_tick(self, now: float, fresh: bool) -> None:
        self._tick += 1
        reloaded = self._balancer is not None and self._balancer.moved()
        moved = self._workers.moved()
        if fresh or reloaded or moved or now >= self._scan_at:
            self._scan(now)
        self._units.start(now, fresh)
        self._gpus.start(now, fresh)
        self._workers.start(now)
        if self._balancer is not None:
            self._balancer.start()
        self._members.start(now)
        patience = _PATIENCE_SECONDS if self._began else 4 * _PATIENCE_SECONDS
        until = now + max(min(_PATIENCE_SHARE * self._interval, patience), 0.1)
        if fresh:
            until = now + 3 * _PATIENCE_SECONDS
        while not self._ended and not self._settled():
            if time.monotonic() >= until:
                break
            self._reactor.turn(until)
        self._workers.plan(now, self._interval)
        if not self._ended and self._began and fresh:
            self._scan(time.monotonic())
        self._began = True
        self._models.want(self._workers.models())
        self._print(time.monotonic())

    def _settled(self) -> bool:
        return (
            self._gpus.settled
            and self._units.settled
            and self._workers.settled
            and (self._balancer is None or self._balancer.settled)
        )

    def _scan(self, now: float) -> None:
        self._scan_at = now + _SCAN_EVERY
        self._processes.scan()
        self._tunnels = tunnels.sample(self._processes.of("tunnel"))
        for process in self._processes.of("engine"):
            if process.unit is not None:
                self._units.adopt(process.unit)
        self._workers.units_changed()

    def _units_changed(self) -> None:
        self._scan(time.monotonic())
        # a worker that has just come up is asked in this very tick
        self._workers.start(time.monotonic(), well=False)

    def _document(self, now: float) -> Dict[str, Any]:
        longest = 1.5 * self._interval
        faults: Dict[str, Any] = {"gpus": self._gpus.fault(now), "units": self._units.fault}
        ages: Dict[str, Any] = {}
        at = self._gpus.answered_at
        if self._gpus.cards and at is not None and now - at > longest:
            ages["gpus"] = round(now - at, 1)
        if self._units.fault is not None and self._units.answered_at is not None:
            ages["units"] = round(now - self._units.answered_at, 1)
        for unit, age in self._workers.ages(now, longest, self._answer()).items():
            ages["workers/" + unit] = age
        document = {
            "tick": self._tick,
            "answered": self._answered,
            "pending": self._pending(faults) or None,
            "probe": self._probe,
            "faults": faults,
            "ages": ages,
            "host": self._host_with_driver(),
            "gpus": self._gpus.cards,
            "units": self._units.sample(),
            "workers": self._workers.sample(),
            "models": self._models.sample(),
            "tunnels": self._tunnels,
            "balancer": None if self._balancer is None else self._balancer.sample(),
            "members": self._members.sample(),
        }
        cleaned: Dict[str, Any] = wire.clean(document)
        return cleaned

    def _host_with_driver(self) -> Dict[str, Any]:
        host = self._host.sample()
        if host.get("driver_version") is None:
            host["driver_version"] = self._gpus.driver_version
        return host

    def _answer(self) -> float:
        """When the newest request came that this line answers, 0 where it answers none."""
        came = 0.0
        while self._asked and self._asked[0][1] <= self._units.asked_at:
            self._answered, came = self._asked.pop(0)
        return came

    def _pending(self, faults: Dict[str, Any]) -> List[str]:
        """The parts whose first answer is still being waited for: empty is not yet none."""
        known = {
            "units": self._units.answered_at is not None,
            "gpus": self._gpus.answered_at is not None,
            "balancer": self._balancer is None or self._balancer.settled,
        }
        return [part for part, answered in known.items() if not answered and not faults.get(part)]

    def _print(self, now: float) -> None:
        if self._unsent:
            # the network stands still: this tick melts into the next one's difference
            return
        document = self._document(now)
        self._unsent = wire.line(wire.diff(document, self._sent))
        self._sent = document
        self._flush(0)

    def _flush(self, mask: int) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(1, self._unsent) :]
        except BlockingIOError:
            self._reactor.watch(1, WRITE, self._flush)
            return
        except OSError:
            self._ended = True
            return
        self._reactor.forget(1)

    def _readable(self, mask: int) -> None:
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return
        self._input += data
        *lines, self._input = self._input.split(b"\n")
        if len(self._input) > _MOST_INPUT_BYTES:
            self._ended = True
        for line in lines:
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        if not isinstance(told, dict):
            return
        self._heard_at = time.monotonic()
        if isinstance(told.get("now"), int):
            self._now = True
            self._asked.append((told["now"], time.monotonic()))
        if isinstance(told.get("members"), list):
            self._members.configure(told["members"])
        if "interval" not in told:
            return
        self._interval = max(0.1, float(told["interval"] or 1.0))
        workers = told.get("workers") or {}
        self._units.configure(told.get("units") or [], list(workers))
        self._workers.configure(workers)
        if told.get("balancer") and self._balancer is None:
            self._balancer = Balancer(self._reactor, self._processes)
        self._configured = True

    def close(self) -> None:
        """End every child and connection."""
        child.end_all()
        self._workers.close()
        self._members.close()


def main(version: str) -> None:
    """Run the probe to its end; never returns."""
    loop = Loop(version)

    def leave(number: int, frame: Any) -> None:
        child.end_all()
        os._exit(0)

    for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(name, leave)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        loop.run()
    finally:
        loop.close()
    # a thread that hangs in NVML would hold up an ordinary exit for ever
    os._exit(0)

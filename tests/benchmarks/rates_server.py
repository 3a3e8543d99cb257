"""A real llama-server under a streaming load, read as the probe reads it, and the truth beside it.

Streaming clients count every token with the time at which it came. One reader asks /metrics and
then /slots each second on one connection, through the engine's own parsers, and /slots between
ticks when the probe would. `Read.generated` is
what the clients had when the slots were read.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import socket
import subprocess
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamatop.engines import glances, prometheus
from llamatop.engines import slots as engine_slots
from llamatop.model.observed import Glance, Slot, TokenCounters, WorkerSample
from tests.benchmarks.rates_accuracy import Read

_GENERATED = b"llamacpp:tokens_predicted_total"
_PROMPT = b"llamacpp:prompt_tokens_total"


@dataclass
class Clients:
    """`count` clients that stream one completion after another until told to stop."""

    host: str
    port: int
    count: int = 4
    shortest: int = 50
    longest: int = 400
    prompt_longest: int = 200
    seed: int = 1
    times: list[float] = field(default_factory=list)
    prompts: list[tuple[float, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> Clients:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(self.count)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def generated(self, at: float) -> int:
        """Tokens that had come by `at`; exact once a later token has come."""
        with self._lock:
            self.times.sort()
            return bisect_right(self.times, at)

    def prompted(self, at: float) -> int:
        """Prompt tokens of the requests whose first token had come by `at`."""
        with self._lock:
            return sum(count for first, count in self.prompts if first <= at)

    def _ask(self, number: int) -> None:
        choose = random.Random(self.seed * 1000 + number)
        while not self._stop.is_set():
            words = " ".join(
                choose.choice(("ba", "be", "bi", "ko", "ku", "la", "lo"))
                for _ in range(choose.randint(1, self.prompt_longest))
            )
            body = {
                "prompt": f"{choose.random()} {words}",
                "n_predict": choose.randint(self.shortest, self.longest),
                "ignore_eos": True,
                "stream": True,
                "cache_prompt": False,
            }
            try:
                self._stream(body)
            except (OSError, http.client.HTTPException, ValueError) as fault:
                self.faults.append(repr(fault))
                self._stop.wait(0.5)

    def _stream(self, body: dict[str, Any]) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        connection.request(
            "POST", "/completion", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        seen = 0
        first: float | None = None
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            at = time.monotonic()
            event = json.loads(line[6:])
            made = len(event.get("tokens") or ())
            if event.get("stop"):
                made = event["timings"]["predicted_n"] - seen
                with self._lock:
                    self.prompts.append((first or at, event["timings"]["prompt_n"]))
            seen += made
            first = first or at
            if made > 0:
                with self._lock:
                    self.times.extend([at] * made)
        connection.close()
        if not seen:
            raise ValueError(f"no tokens: HTTP {answer.status}")


class Reader:
    """One connection that reads a worker as often as asked: /metrics, then /slots.

    Between two reads it looks at the slots alone when the probe would.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=60)
        self._state: dict[str, Any] = {}
        self._glances: list[Glance] = []

    def wait(self, due: float, interval: float) -> None:
        """Until `due`, an `interval` after the read before, with glances on the way."""
        count = glances.wanted(self._state, interval)
        for number in range(count):
            moment = due - interval + interval * (number + 1) / (count + 1)
            if moment > time.monotonic():
                time.sleep(moment - time.monotonic())
                slots = self._slots()
                self._glances.append(Glance(time.monotonic(), slots))
        time.sleep(max(due - time.monotonic(), 0))

    def read(self) -> WorkerSample:
        found = prometheus.values(self._get("/metrics"), (_GENERATED, _PROMPT))
        counters = TokenCounters(*found[_GENERATED], *found[_PROMPT], live=False)
        slots, looked, self._glances = self._slots(), tuple(self._glances), []
        return WorkerSample(
            "worker",
            "llama-server",
            health="ok",
            identity="1",
            slots=slots,
            glances=looked,
            counters=counters,
            read_at_seconds=time.monotonic(),
        )

    def close(self) -> None:
        self._connection.close()

    def _slots(self) -> tuple[Slot, ...]:
        parsed = engine_slots.parse(json.loads(self._get("/slots")))
        glances.watch(self._state, parsed, time.monotonic())
        return tuple(Slot(**fields) for fields in parsed.values())

    def _get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()


def samples(reader: Reader, seconds: int, interval: float = 1.0) -> Iterator[WorkerSample]:
    """Reads for `seconds`, one each `interval`; a tick that a slow answer passed is left out."""
    began = due = time.monotonic()
    while due < began + seconds:
        reader.wait(due, interval)
        yield reader.read()
        due += interval * max(math.ceil((time.monotonic() - due) / interval), 1)
    reader.close()


def record(host: str, port: int, seconds: int = 33, **clients: int) -> list[Read]:
    """Put a load on a running server, read it each second, and say what was true at each read.

    Keyword arguments go to `Clients`. Raises RuntimeError where a request of the load failed.
    """
    with Clients(host, port, **clients) as load:
        time.sleep(2)
        found = list(samples(Reader(host, port), seconds))
    # only the end of a request tells how long its prompt was: the clients have finished now
    moments = [sample.read_at_seconds or 0.0 for sample in found]
    totals = [(load.generated(at), load.prompted(at)) for at in moments]
    if load.faults:
        raise RuntimeError(f"the load failed: {load.faults[0]}")
    return [Read(sample, *total) for sample, total in zip(found, totals, strict=True)]


@contextlib.contextmanager
def running(binaries: Path, model: Path, slots: int = 4) -> Iterator[int]:
    """A llama-server on a free loopback port, with --metrics; yields the port.

    `binaries` is the directory of `llama-server` and its libraries. Raises RuntimeError where it
    does not answer in 30 s.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    argv = [str(binaries / "llama-server"), "-m", str(model), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--parallel", str(slots), "-c", str(4096 * slots)]
    process = subprocess.Popen(
        [*argv, "--metrics", "-t", "1"],
        env={**os.environ, "LD_LIBRARY_PATH": str(binaries)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_healthy(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError(f"llama-server on port {port} did not come up")

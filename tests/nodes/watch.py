"""llamatop itself as a person or a script meets it: a command that ends, or `watch --json`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nodes.errors import NodesError

_COMMAND = (sys.executable, "-m", "llamatop.cli.main")


@dataclass(frozen=True)
class Sample:
    """One object of `status --json`, and when it came (time.monotonic)."""

    at: float
    json: dict[str, Any]

    def node(self, name: str) -> dict[str, Any]:
        """A node; KeyError where it is not listed."""
        return _called(self.json["nodes"], name)

    def worker(self, name: str) -> dict[str, Any]:
        """A worker by its name, `node/short`; KeyError where it is not there."""
        return _called(self.node(name.partition("/")[0])["workers"], name)

    def gpu(self, node: str, index: int) -> dict[str, Any]:
        """A card by its index; KeyError where it is not there."""
        for card in self.node(node)["gpus"]:
            if card["index"] == index:
                found: dict[str, Any] = card
                return found
        raise KeyError(index)

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """The members of the upstream by their address."""
        return {member["address"]: member for member in self.json["balancer"]["members"]}

    @property
    def told(self) -> str:
        """All events, a line each."""
        return "\n".join(f"{e['node']} {e['worker']} {e['text']}" for e in self.json["events"])


def _called(things: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for thing in things:
        if thing["name"] == name:
            return thing
    raise KeyError(name)


@dataclass(frozen=True)
class Ended:
    """A llamatop that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def sample(self) -> Sample:
        """What `status --json` printed."""
        return Sample(time.monotonic(), json.loads(self.stdout))


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(more or {})}


def llamatop(
    *words: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Ended:
    """Run one command of llamatop to its end, without a terminal."""
    done = subprocess.run(
        [*_COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_environment(environment),
        timeout=timeout,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Watch:
    """A running `llamatop watch --json -c FILE` and every line it printed.

    A context manager: leaving it ends the process. `begun` is when it was started.
    """

    def __init__(
        self, file: Path, *words: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.lines: list[Sample] = []
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [*_COMMAND, "watch", "--json", "-c", str(file), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(environment),
        )
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self._reader.join(10)
        self.process.communicate()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            sample = Sample(time.monotonic(), json.loads(line))
            with self._news:
                self.lines.append(sample)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait(
        self, what: str, condition: Callable[[Sample], object], timeout: float = 60.0
    ) -> Sample:
        """The first line from now on of which `condition` is true; one that lacks a thing is not.

        Raises NodesError with the last line where none comes in time.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            place = len(self.lines)
            while True:
                while place < len(self.lines):
                    if _holds(condition, self.lines[place]):
                        return self.lines[place]
                    place += 1
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise NodesError(f"{what}: not seen within {timeout:g} s\n{self._last()}")
                self._news.wait(left)

    async def seen(
        self, what: str, condition: Callable[[Sample], object], timeout: float = 60.0
    ) -> Sample:
        """The same as `wait`, beside other work of an event loop."""
        return await asyncio.to_thread(self.wait, what, condition, timeout)

    def ticks(self, count: int) -> list[Sample]:
        """The next `count` lines."""
        first = len(self.lines)
        self.wait(f"{count} lines", lambda _: len(self.lines) >= first + count, 10.0 + 3 * count)
        return self.lines[first : first + count]

    def _last(self) -> str:
        if self._ended and self.process.stderr:
            return self.process.stderr.read().decode()
        return json.dumps(self.lines[-1].json, indent=1)[-6000:] if self.lines else "no line came"


def _holds(condition: Callable[[Sample], object], sample: Sample) -> bool:
    try:
        return bool(condition(sample))
    except (KeyError, TypeError):
        return False


def longest_gap(lines: list[Sample]) -> float:
    """The longest time in seconds between two successive lines."""
    return max(later.at - line.at for line, later in itertools.pairwise(lines))


# What only Ollama or vLLM or a split tell, and when a node that is read is tried next.
OTHERS = frozenset(
    {
        *("loaded_models", "models_on_disk", "kv_cache_percent", "first_token_seconds"),
        *("preemptions_total", "lora_adapters", "engines", "next_try_seconds"),
        *("busy_percent_at_most", "split_bytes"),
    }
)


def unknown(
    sample: Sample, leave: frozenset[str] = frozenset({"fault", "config_valid"}) | OTHERS
) -> str:
    """The path of the first figure that is null though it should not be, empty where all are."""

    def search(value: object, path: str) -> str:
        if value is None:
            return path
        items: list[tuple[object, object]] = []
        if isinstance(value, dict):
            items = [(key, part) for key, part in value.items() if key not in leave]
        elif isinstance(value, list):
            items = list(enumerate(value))
        return next(filter(None, (search(part, f"{path}/{key}") for key, part in items)), "")

    return search({key: part for key, part in sample.json.items() if key != "events"}, "")

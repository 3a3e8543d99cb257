"""Machines that speak the wire without any network: a scripted probe on each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llamatop.errors import NodeError, Unreachable
from llamatop.model.plan import Command
from llamatop.transport.base import Completed

Document = dict[str, Any]


class FakeChannel:
    """A program whose lines a test feeds; `ended` gives its status and stderr."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.closed = False
        self.done = Completed(0, b"", b"")
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    @property
    def asked(self) -> int | None:
        """The newest request for a look that was written to it."""
        lines = b"".join(self.written).split(b"\n")
        numbers = [json.loads(line)["now"] for line in lines if line.startswith(b'{"now"')]
        return numbers[-1] if numbers else None

    def say(self, patch: Document) -> None:
        self._lines.put_nowait(json.dumps(patch).encode() + b"\n")

    def say_bytes(self, line: bytes) -> None:
        self._lines.put_nowait(line)

    def end(self, status: int = 0, stderr: bytes = b"") -> None:
        self.done = Completed(status, b"", stderr)
        self._lines.put_nowait(b"")

    async def write(self, data: bytes) -> None:
        """Take it bit by bit, as a channel does; `takes` holds the rest back."""
        for begin in range(0, len(data), 4096):
            self.written.append(data[begin : begin + 4096])
            await asyncio.sleep(0)
            await self.takes.wait()

    async def write_eof(self) -> None:
        pass

    async def readline(self, limit: int = 8 * 2**20) -> bytes:
        return await self._lines.get()

    async def wait(self) -> Completed:
        return self.done

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeMachine:
    """A machine; `probe` is called with each opened channel, `run_answers` by argv[0]."""

    name: str
    probe: Callable[[FakeChannel, int], None] | None = None
    refuse: NodeError | None = None
    hang: bool = False
    answer: Callable[[Command], Completed] | None = None
    channels: list[FakeChannel] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        self.commands.append(command)
        assert self.answer is not None
        return self.answer(command)

    async def open(self, command: Command) -> FakeChannel:
        self.commands.append(command)
        if self.hang:
            await asyncio.Event().wait()
        if self.refuse is not None:
            raise self.refuse
        channel = FakeChannel()
        self.channels.append(channel)
        if self.probe is not None:
            self.probe(channel, len(self.channels))
        return channel

    def shell_argv(self) -> list[str]:
        return ["ssh", self.name]

    async def close(self) -> None:
        pass


class FakeMachines:
    def __init__(self, *machines: FakeMachine) -> None:
        self._machines = {machine.name: machine for machine in machines}

    def machine(self, node_name: str) -> FakeMachine:
        return self._machines[node_name]


def refused(node: str) -> Unreachable:
    return Unreachable(node, "connection refused", "start sshd there")


def ticking(
    make: Callable[[int], Document], after: float = 0.0
) -> Callable[[FakeChannel, int], None]:
    """A probe that sends the whole of `make(tick)` once a second, the first `after` seconds."""

    def start(channel: FakeChannel, _: int) -> None:
        async def talk() -> None:
            tick = 0
            await asyncio.sleep(after)
            while not channel.closed:
                channel.say({"tick": tick, "answered": channel.asked, **make(tick)})
                tick += 1
                await asyncio.sleep(1.0)

        channel.talk = asyncio.create_task(talk())  # type: ignore[attr-defined]  # keeps it alive

    return start


def worker(port: int = 37081, busy: int = 0, at: float = 1.0, **more: Any) -> Document:
    """A llama-server with two slots, `busy` of them generating at 50 tokens a second."""
    slots = {
        str(number): {
            "busy": number < busy,
            "context_tokens": 4096,
            **(
                {"task_id": number, "prompt_tokens": 10, "generated_tokens": int(50 * at)}
                if number < busy
                else {}
            ),
        }
        for number in range(2)
    }
    return {
        "engine": "llama-server",
        "url": f"http://127.0.0.1:{port}",
        "health": "ok",
        "model": "tiny",
        "identity": f"start-{port}",
        "pids": [port],
        "launch": {"source": "process", "port": port, "cuda_visible_devices": "0"},
        "slots": slots,
        "slots_total": 2,
        "context_tokens": 8192,
        "requests_processing": busy,
        "requests_deferred": 0,
        "counters": {},
        "metrics": False,
        "read_at_seconds": at,
        **more,
    }


def unit(state: str = "active", sub: str = "running", **more: Any) -> Document:
    return {
        "kind": "worker",
        "load_state": "loaded",
        "active_state": state,
        "sub_state": sub,
        "unit_file_state": "enabled",
        "restarts": 0,
        "main_pid": 159,
        "since": 1790000000.0,
        **more,
    }


def gpu(index: int = 0, *pids: int, **more: Any) -> Document:
    return {
        "index": index,
        "name": "Tesla P40",
        "source": "nvml",
        "utilization_percent": 96.0,
        "memory_used_bytes": 2**30,
        "memory_total_bytes": 24 * 2**30,
        "power_watts": 172.0,
        "power_limit_watts": 250.0,
        "temperature_celsius": 68.0,
        "processes": {str(pid): 2**29 for pid in pids},
        **more,
    }

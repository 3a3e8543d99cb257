"""A node's link: it reads, notices every way to fail, says so in a sentence, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from llamatop.collect.backoff import Backoff
from llamatop.collect.link import NodeLink
from llamatop.errors import HostKeyFault, NoAnswer, Unreachable
from llamatop.model.declared import Node
from llamatop.model.observed import NodeSnapshot
from llamatop.probe import bundle

from . import virtual
from .fakes import FakeChannel, FakeMachine, refused, ticking, worker

NODE = Node("node1", ssh="node1")
CONFIGURATION = b'{"interval": 1.0}\n'


class Watched:
    """A running link and everything it said."""

    def __init__(self, machine: FakeMachine) -> None:
        self.seen: list[NodeSnapshot] = []
        self.link = NodeLink(NODE, machine, CONFIGURATION, self._see, clock=virtual.clock)
        self._news = asyncio.Event()

    def _see(self, snapshot: NodeSnapshot) -> None:
        self.seen.append(snapshot)
        self._news.set()

    async def until(self, count: int) -> NodeSnapshot:
        while len(self.seen) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 60)
        return self.seen[count - 1]


@contextlib.asynccontextmanager
async def linked(machine: FakeMachine) -> AsyncIterator[Watched]:
    watched = Watched(machine)
    task = asyncio.create_task(watched.link.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def first_fault(machine: FakeMachine) -> str:
    async def work() -> str:
        async with linked(machine) as watched:
            snapshot = await watched.until(1)
            assert not snapshot.reachable
            return snapshot.faults["node"]

    return virtual.run(work())


def probe(*lines: bytes, status: int = 0, stderr: bytes = b"", ends: bool = True) -> FakeMachine:
    def start(channel: FakeChannel, _: int) -> None:
        for line in lines:
            channel.say_bytes(line)
        if ends:
            channel.end(status, stderr)

    return FakeMachine("node1", probe=start)


def test_patches_become_snapshots() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=lambda channel, _: None)
        async with linked(machine) as watched:
            while not machine.channels:
                await asyncio.sleep(0.1)
            channel = machine.channels[0]
            channel.say({"tick": 0, "host": {"load1": 0.5}, "workers": {"a.service": worker()}})
            first = await watched.until(1)
            channel.say({"tick": 1, "workers": {"a.service": {"requests_deferred": 4}}})
            second = await watched.until(2)
        assert first.reachable
        assert first.workers["a.service"].requests_deferred == 0
        assert second.workers["a.service"].requests_deferred == 4
        assert second.host.load1 == 0.5
        assert second.received_at is not None
        assert channel.closed

    virtual.run(work())


def test_what_was_read_through_a_tunnel_is_forgotten_when_the_tunnel_changes() -> None:
    tunnel = {"direction": "L", "listen": "127.0.0.1:1", "destination": "node2"}

    async def work() -> None:
        machine = FakeMachine("node1", probe=lambda channel, _: None)
        async with linked(machine) as watched:
            while not machine.channels:
                await asyncio.sleep(0.1)
            channel = machine.channels[0]
            members = {"127.0.0.1:1": {"identity": "77", "reads": 1}}
            first = {"0": {**tunnel, "target": "127.0.0.1:37081"}}
            channel.say({"tick": 0, "tunnels": first, "members": members})
            await watched.until(1)
            assert watched.link.identities["127.0.0.1:1"][0] == "77"
            channel.say({"tick": 1})
            await watched.until(2)
            assert watched.link.identities.keys() == members.keys()
            channel.say({"tick": 2, "tunnels": {"0": {"target": "127.0.0.1:37181"}}})
            await watched.until(3)
            assert watched.link.identities == {}

    virtual.run(work())


def test_the_configuration_follows_the_payload_and_beats_follow() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=ticking(lambda tick: {}))
        async with linked(machine) as watched:
            await watched.until(5)
        program, _, sent = b"".join(machine.channels[0].written).partition(CONFIGURATION)
        assert program == bundle.payload()
        beats = [json.loads(line)["beat"] for line in sent.splitlines()]
        assert beats == list(range(1, len(beats) + 1))
        assert len(beats) >= 3

    virtual.run(work())


def test_no_python3() -> None:
    fault = first_fault(probe(status=127, stderr=b"sh: 1: python3: not found\n"))
    assert "python3 is missing" in fault
    assert "apt-get install python3" in fault


def test_a_probe_that_dies_tells_the_last_line_of_its_errors() -> None:
    fault = first_fault(probe(status=1, stderr=b"Traceback\nMemoryError: \x1b[2J no memory\n"))
    assert "status 1" in fault
    assert "no memory" in fault
    assert "\x1b" not in fault


def test_a_fault_that_the_probe_tells() -> None:
    assert first_fault(probe(b'{"fault": "python3-minimal lacks json"}\n')) == (
        "python3-minimal lacks json"
    )


def test_a_banner_is_skipped() -> None:
    async def work() -> NodeSnapshot:
        machine = probe(
            b"Welcome!\n", b"[motd] {x}\n", b"{not json\n", b'{"tick": 1}\n', ends=False
        )
        async with linked(machine) as watched:
            return await watched.until(1)

    assert virtual.run(work()).tick == 1


def test_endless_chatter_is_not_the_protocol() -> None:
    fault = first_fault(probe(*[b"\x1b]0;spam " + b"x" * 1000 + b"\n"] * 70, ends=False))
    assert "not JSON" in fault
    assert "\x1b" not in fault


def test_text_alone_is_not_the_protocol() -> None:
    fault = first_fault(probe(b"This account is currently not available.\n"))
    assert "instead of the probe's JSON" in fault


def test_garbage_after_the_first_document_starts_over() -> None:
    async def work() -> None:
        machine = probe(b'{"tick": 1}\n', b"oops\n", ends=False)
        async with linked(machine) as watched:
            fault = await watched.until(2)
            assert "not JSON" in fault.faults["node"]
            assert fault.tick == 1, "what was known stays"
            again = await watched.until(3)
            assert again.reachable
            assert "node" not in again.faults
        assert len(machine.channels) == 2

    virtual.run(work())


def test_what_a_new_probe_still_waits_for_stays_as_it_was_with_its_age() -> None:
    def start(channel: FakeChannel, number: int) -> None:
        if number == 1:
            files = {"/n.conf": {"text": "http { upstream u { server 127.0.0.1:1; } }"}}
            nginx = {"running": True, "main": "/n.conf", "files": files, "version": "1.26.0"}
            nginx |= {"draining_processes": 0, "draining_connections": {}, "unit": "nginx.service"}
            known = {"units": {"a.service": {}}, "workers": {"a.service": worker()}}
            channel.say({"tick": 1, "balancer": nginx, **known})
            channel.say_bytes(b"oops\n")
        else:
            # which files are nginx's own is not known before it has told
            drains = {"draining_processes": 1, "draining_connections": {"127.0.0.1:1": 2}}
            waits = {"pending": ["units", "balancer"], "balancer": {"running": True, **drains}}
            channel.say({"tick": 1, "host": {"load1": 2.0}, **waits})
            channel.say({"tick": 2, "pending": None, "units": {"b.service": {}}, "balancer": None})

    async def work() -> None:
        async with linked(FakeMachine("node1", probe=start)) as watched:
            first, again, last = (
                await watched.until(1),
                await watched.until(3),
                await watched.until(4),
            )
            assert again.reachable
            assert again.host.load1 == 2.0
            assert again.workers == first.workers
            assert again.ages["workers"] > 0
            assert again.balancer is not None
            assert [one.address for one in again.balancer.members or ()] == ["127.0.0.1:1"]
            assert again.ages["balancer"] > 0
            assert again.balancer.version == "1.26.0"
            # the processes are looked at without asking nginx: these figures are new
            assert again.balancer.draining_processes == 1
            assert again.balancer.draining_connections == {"127.0.0.1:1": 2}
            assert again.balancer.unit is None
            assert last.balancer is None
            assert list(last.units) == ["b.service"]
            assert last.workers == {}

    virtual.run(work())


def test_refused_then_back() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=ticking(lambda tick: {}), refuse=refused("node1"))
        async with linked(machine) as watched:
            fault = await watched.until(1)
            assert fault.faults["node"] == "connection refused; start sshd there"
            machine.refuse = None
            back = await watched.until(2)
            assert back.reachable

    virtual.run(work())


def test_a_host_key_fault_keeps_its_mend() -> None:
    machine = FakeMachine("node1", refuse=HostKeyFault("node1", "unknown key", "ssh-keyscan it"))
    assert first_fault(machine) == "unknown key; ssh-keyscan it"


def test_silence_is_noticed() -> None:
    async def work() -> None:
        machine = probe(b'{"tick": 1}\n', ends=False)
        async with linked(machine) as watched:
            await watched.until(1)
            before = virtual.clock()
            fault = await watched.until(2)
            assert "nothing was heard" in fault.faults["node"]
            assert fault.silent
            assert virtual.clock() - before < 10
        assert machine.channels[0].closed

    virtual.run(work())


def test_a_probe_that_never_speaks_is_noticed() -> None:
    assert "nothing was heard" in first_fault(probe(ends=False))


@pytest.mark.parametrize(
    ("machine", "silent"),
    [
        (FakeMachine("node1", refuse=NoAnswer("node1", "it did not answer")), True),
        (FakeMachine("node1", refuse=refused("node1")), False),
        (FakeMachine("node1", refuse=HostKeyFault("node1", "unknown key")), False),
        (probe(status=127, stderr=b"python3: not found\n"), False),
        (probe(b"Welcome!\n"), False),
        (probe(ends=False), False),
    ],
)
def test_a_node_that_answers_but_cannot_be_read_is_not_silent(
    machine: FakeMachine, silent: bool
) -> None:
    async def work() -> NodeSnapshot:
        async with linked(machine) as watched:
            return await watched.until(1)

    assert virtual.run(work()).silent is silent


def test_the_back_off_grows_to_fifteen_seconds_and_starts_again() -> None:
    backoff = Backoff()
    delays = [backoff.next_seconds() for _ in range(20)]
    assert delays[0] <= 0.2
    assert sum(delays[:3]) < 2
    assert all(10 <= delay <= 15 for delay in delays[6:])
    backoff.reset()
    assert backoff.next_seconds() <= 0.2


def test_hurry_cuts_the_back_off_short() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", refuse=refused("node1"))
        async with linked(machine) as watched:
            await watched.until(9)
            before, attempts = virtual.clock(), len(watched.seen)
            await asyncio.sleep(1)
            watched.link.hurry()
            await watched.until(attempts + 1)
            assert virtual.clock() - before < 1.5

    virtual.run(work())


def test_a_hanging_connection_can_be_cancelled() -> None:
    async def work() -> None:
        async with linked(FakeMachine("node1", hang=True)) as watched:
            await asyncio.sleep(30)
            assert watched.seen == []

    virtual.run(work())


def test_refresh_is_newer_than_the_call() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=ticking(lambda tick: {}))
        async with linked(machine) as watched:
            await watched.until(2)
            before = watched.seen[-1].tick
            snapshot = await watched.link.refresh()
            assert before is not None
            assert snapshot.tick == before + 1

    virtual.run(work())


def test_refresh_waits_for_what_was_read_after_the_call() -> None:
    """Lines that come meanwhile may hold what was read before."""

    async def work() -> None:
        machine = FakeMachine("node1", probe=lambda channel, _: channel.say({"tick": 0}))
        async with linked(machine) as watched:
            await watched.until(1)
            channel = machine.channels[0]
            first = asyncio.create_task(watched.link.refresh())
            second = asyncio.create_task(watched.link.refresh())
            await asyncio.sleep(1)
            assert channel.asked == 2
            channel.say({"tick": 1})
            channel.say({"tick": 2, "answered": 1})
            assert (await first).tick == 2
            channel.say({"tick": 3})
            await asyncio.sleep(1)
            assert not second.done()
            channel.say({"tick": 4, "answered": 2})
            assert (await second).tick == 4

    virtual.run(work())


def test_a_look_is_never_asked_for_in_the_middle_of_the_program() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=lambda channel, _: channel.takes.clear())
        async with linked(machine) as watched:
            while not (machine.channels and machine.channels[0].written):
                await asyncio.sleep(0.1)
            channel = machine.channels[0]
            look = asyncio.create_task(watched.link.refresh())
            await asyncio.sleep(1)
            channel.takes.set()
            while not b"".join(channel.written).endswith(CONFIGURATION):
                await asyncio.sleep(0.1)
            channel.say({"tick": 0})
            await asyncio.sleep(0.1)
            channel.say({"tick": 1, "answered": channel.asked})
            assert (await look).tick == 1
            program, _, rest = b"".join(channel.written).partition(CONFIGURATION)
            assert program == bundle.payload()
            assert b'{"now":1}' in rest

    virtual.run(work())


def test_refresh_while_the_connection_is_made_again() -> None:
    async def work() -> None:
        machine = FakeMachine("node1", probe=ticking(lambda tick: {"gpus": {}}))
        async with linked(machine) as watched:
            await watched.until(1)
            machine.channels[0].end()
            await watched.until(2)
            snapshot = await watched.link.refresh()
            assert snapshot.reachable
            assert machine.channels[1].asked == 1

    virtual.run(work())


def test_refresh_of_a_node_that_cannot_be_reached_says_why() -> None:
    async def work() -> None:
        async with linked(FakeMachine("node1", refuse=refused("node1"))) as watched:
            await watched.until(1)
            with pytest.raises(Unreachable, match="connection refused"):
                await watched.link.refresh()

    virtual.run(work())


def test_refresh_of_a_silent_node_ends() -> None:
    async def work() -> None:
        machine = probe(b'{"tick": 1}\n', ends=False)
        async with linked(machine) as watched:
            await watched.until(1)
            with pytest.raises(Unreachable):
                await watched.link.refresh(timeout_seconds=3)

    virtual.run(work())

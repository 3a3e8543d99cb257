"""Who reads an ssh connection: the loop the data, paramiko's thread what else comes."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from paramiko import SSHException, Transport
from paramiko.packet import Packetizer

from llamatop.errors import Unreachable
from llamatop.model.plan import Command
from llamatop.transport.deliveries import Deliveries
from llamatop.transport.ssh_packets import Packets
from llamatop.transport.ssh_stream import Stream

from .conftest import World
from .test_local import shell

pytestmark = pytest.mark.slow

KINDS = {
    "one pass": ("Ciphers aes128-gcm@openssh.com",),
    "length in clear": ("Ciphers aes128-ctr", "MACs hmac-sha2-256-etm@openssh.com"),
    "length hidden": ("Ciphers aes128-ctr", "MACs hmac-sha2-256"),
}
CAT = Command(("cat",))


def connection() -> Transport:
    """The thread of the newest connection; those of other tests may still be ending."""
    return [thread for thread in threading.enumerate() if isinstance(thread, Transport)][-1]


def wakes(thread: threading.Thread) -> int:
    """How often this thread has waited for something by now."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


@pytest.mark.parametrize("kind", KINDS)
async def test_lines_and_bulk_pass_through_many_new_keys(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # new keys at the server's wish and, for what it receives, at ours
    monkeypatch.setattr(Packetizer, "REKEY_PACKETS", 40)
    server = world.server("node1", *KINDS[kind], extra="RekeyLimit 256K")
    machine = world.machine("node1")
    channel = await machine.open(CAT)
    data = os.urandom(2**20)

    async def lines() -> None:
        for size in (1, 30, 2_600, 40_000, 100_000) * 5:
            line = b"%d" % size * (size // 2) + b"\n"
            await channel.write(line)
            assert await channel.readline() == line

    async with asyncio.timeout(60):
        _, done = await asyncio.gather(lines(), machine.run(CAT, data))
    assert done.stdout == data
    assert server.log.count("rekeying in progress") + server.log.count("set_newkeys: rekeying") > 8
    assert server.log.count("Accepted publickey") == 1


async def test_a_line_wakes_no_thread(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(CAT)

    async def echo(number: int) -> None:
        await channel.write(b"%d\n" % number)
        assert await channel.readline() == b"%d\n" % number

    await echo(0)
    thread = connection()
    # for a moment after the program's start the thread is awake
    for _ in range(50):
        before = wakes(thread)
        for number in range(100):
            await echo(number)
        if wakes(thread) - before < 10:
            break
    else:
        raise AssertionError("lines go on to wake the thread")


async def test_an_idle_connection_ends_with_its_server(world: World) -> None:
    server = world.server("node1")
    machine = world.machine("node1")
    assert (await machine.run(Command(("true",)))).status == 0
    thread = connection()
    server.cut()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert (await machine.run(Command(("true",)))).status == 0
    assert server.log.count("Accepted publickey") == 2


async def test_closing_ends_the_thread_that_rests(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    channel = await machine.open(CAT)
    await channel.write(b"x\n")
    assert await channel.readline() == b"x\n"
    thread = connection()
    await machine.close()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    with pytest.raises(Unreachable):
        await channel.readline()


async def test_errors_and_the_end_keep_their_order(world: World) -> None:
    world.server("node1")
    machine = world.machine("node1")
    program = shell("for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo e$i >&2; done; exit 7")
    done = await asyncio.gather(*(machine.run(program) for _ in range(20)))
    for one in done:
        assert one.status == 7
        assert one.stdout.split() == [b"%d" % number for number in range(1, 10)]
        assert one.stderr.split() == [b"e%d" % number for number in range(1, 10)]


async def test_many_machines_share_their_wake_ups_and_lose_nothing(world: World) -> None:
    """As a cluster's machines do: what comes together is taken together."""
    world.server("node1")
    machine = world.machine("node1")
    channels = [await machine.open(CAT) for _ in range(8)]

    async def talk(number: int) -> None:
        for round_ in range(30):
            line = b"%d %d\n" % (number, round_)
            await channels[number].write(line)
            assert await channels[number].readline() == line

    async with asyncio.timeout(60):
        await asyncio.gather(*(talk(number) for number in range(8)))


class Plainly:
    """Lets the test say when the loop looks."""

    def __init__(self) -> None:
        self.takes: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()

    def watch(self, descriptor: int, take: Callable[[], bool]) -> bool:
        self.takes.put(take)
        return True

    def unwatch(self, descriptor: int) -> None:
        pass


class NoCipher:
    """Leaves bytes as they are."""

    def update(self, data: bytes) -> bytes:
        return data


@pytest.mark.parametrize("length", [0, 1, 11, 2**31])
def test_a_packet_that_lies_about_its_length_holds_up_its_own_thread_alone(length: int) -> None:
    ours, theirs = socket.socketpair()
    packets = Packets(cast("socket.socket", Stream(ours)))
    packets.set_inbound_cipher(NoCipher(), 16, sha256, 32, b"k" * 32, etm=True)
    deliveries = Plainly()
    packets.let_read(cast("Deliveries", deliveries), lambda: True)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                packets.read_message()
        except (EOFError, SSHException, OSError) as error:
            ended.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    take = deliveries.takes.get(timeout=30)
    theirs.send(length.to_bytes(4, "big") + bytes(36))
    looking = threading.Thread(target=take, daemon=True)
    looking.start()
    looking.join(30)
    assert not looking.is_alive(), "the loop waits for a packet"
    packets.close()
    theirs.close()
    thread.join(30)
    assert ended


@pytest.mark.parametrize(("size", "more"), [(3_000, False), (20_000, True)])
def test_what_comes_in_bulk_is_looked_for_again_at_once(size: int, more: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(bytes(size))
        stream = Stream(ours)
        assert stream.take() is more
        assert len(stream.held) == size

"""Who reads an ssh connection's packets: paramiko's thread, or the event loop for many at once."""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import paramiko
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.packet import Packetizer

from .deliveries import Deliveries
from .ssh_stream import HELD_BYTES, Stream

# What a block of a cipher takes: paramiko reads as much before it looks at a length.
SHORTEST_BYTES: Final = 16
# What is answered to an answer comes soon: the thread does not rest in between.
ANSWER_SECONDS: Final = 0.1

_Handed = tuple[int, paramiko.Message] | Exception | None


class _Protected(Protocol):
    """What paramiko's own thread calls for a channel's data."""

    def _feed(self, message: paramiko.Message) -> None: ...


class Packets(Packetizer):
    """Reads packets in paramiko's thread until the loop may, which then leaves it all but data.

    A thread that is woken for each line costs more than the line. While it rests the loop reads:
    the data of `channels` goes into them, and whatever else comes (an answer, new keys, the end, a
    fault) wakes the thread, which deals with it as ever, reads on while more comes or is about to,
    and rests again. So a server's own question whether we live is answered while the loop runs.
    """

    def __init__(self, stream: socket.socket) -> None:
        super().__init__(stream)
        self._stream = cast(Stream, stream)
        self._deliveries: Deliveries | None = None
        self._tells_lengths: Callable[[], bool] = bool
        self._turn = threading.Lock()
        self._watched: int | None = None
        self._over = False
        self._awake_until = 0.0
        self._handed: queue.SimpleQueue[_Handed] = queue.SimpleQueue()
        self.channels: dict[int, paramiko.Channel] = {}

    def let_read(self, deliveries: Deliveries, tells_lengths: Callable[[], bool]) -> None:
        """Let the loop of `deliveries` read, whenever lengths are told and this thread is done."""
        self._tells_lengths = tells_lengths
        self._deliveries = deliveries

    def expect(self) -> None:
        """An answer is waited for: have the thread read at once, from any thread."""
        with self._turn:
            self._awake_until = time.monotonic() + ANSWER_SECONDS
            self._hand(None)

    def read_message(self) -> tuple[int, paramiko.Message]:
        """The next packet that is for paramiko's thread, as Packetizer's."""
        if self._may_rest() and self._deliveries is not None:
            handed = self._rest(self._deliveries) if self._tells_lengths() else None
            if isinstance(handed, Exception):
                raise handed
            if handed is not None:
                self._awake_until = time.monotonic() + ANSWER_SECONDS
                return handed
        return super().read_message()

    def _may_rest(self) -> bool:
        if self._stream.held or self.need_rekey():
            return False
        left = self._awake_until - time.monotonic()
        if left <= 0 or self._stream.descriptor is None:
            return True
        coming = select.poll()
        coming.register(self._stream.descriptor, select.POLLIN)
        return not coming.poll(1000 * left)

    def _rest(self, deliveries: Deliveries) -> _Handed:
        """Wait for what the loop hands over; None where this thread has to read itself."""
        with self._turn:
            descriptor = self._stream.descriptor
            if self._over or descriptor is None or not deliveries.watch(descriptor, self._take):
                return None
            self._watched = descriptor
        return self._handed.get()

    def _take(self) -> bool:
        """Read what has come, in the loop; whether there may be more."""
        with self._turn:
            if self._watched is None:
                return False
            try:
                more = self._stream.take()
                while True:
                    length = self._length()
                    if length > len(self._stream.held):
                        if length <= HELD_BYTES:
                            return more
                        self._hand(None)
                        return False
                    if length < SHORTEST_BYTES + self.get_mac_size_in():
                        # it lies about its length: nothing here may wait for the rest
                        self._hand(None)
                        return False
                    with self._stream.as_held():
                        kind, message = super().read_message()
                    if kind != MSG_CHANNEL_DATA or self.need_rekey() or not self._fed(message):
                        self._hand((kind, message))
                        return False
            except Exception as error:  # noqa: BLE001 - paramiko's thread knows what to do with it
                self._hand(error)
                return False

    def _length(self) -> int:
        """Of the packet that comes next, all told; more than is there where that is unknown."""
        head = self._stream.held[:4]
        if len(head) < 4:
            return SHORTEST_BYTES
        return 4 + int.from_bytes(head, "big") + self.get_mac_size_in()

    def _fed(self, message: paramiko.Message) -> bool:
        channel = self.channels.get(message.get_int())
        if channel is None:
            message.rewind()
            return False
        cast(_Protected, channel)._feed(message)
        return True

    def _hand(self, what: _Handed) -> None:
        """Wake the thread, which reads itself until it rests again."""
        if self._watched is not None and self._deliveries is not None:
            self._deliveries.unwatch(self._watched)
            self._watched = None
            self._handed.put(what)

    def close(self) -> None:
        """End it, from any thread."""
        with self._turn:
            self._over = True
            self._hand(EOFError())
        super().close()

"""The limits of a stream's waits, which the kernel keeps."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from llamatop.transport.ssh_stream import Stream


class Narrow(socket.socket):
    """As a kernel with times of 32 bits would have it."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX)
        self.given: dict[int, bytes] = {}

    def getsockopt(self, level: int, option: int, length: int = 0) -> bytes:  # type: ignore[override]
        return b"\0" * 8

    def setsockopt(self, level: int, option: int, value: object, *_: object) -> None:  # type: ignore[override]
        assert isinstance(value, bytes)
        self.given[option] = value


def test_a_read_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamatop.transport.ssh_stream.WAKE_SECONDS", 0.05)
    near, far = socket.socketpair()
    with near, far:
        stream, begun = Stream(near), time.monotonic()
        stream.settimeout(0.15)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        assert 0.1 < time.monotonic() - begun < 30
        assert near.gettimeout() is None


def test_times_of_32_bits_are_given_as_such() -> None:
    with Narrow() as raw:
        stream = Stream.__new__(Stream)
        stream._raw = raw
        stream.settimeout(2.5)
        limit = struct.pack("=ii", 2, 500_000)
        assert raw.given == {socket.SO_RCVTIMEO: limit, socket.SO_SNDTIMEO: limit}

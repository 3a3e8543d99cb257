"""The file of a recording: streams of bzip2, one after another; read it with `bzcat FILE | jq`.

A stream of minutes is a third of the size that streams of seconds are. So the newest lines lie in
small streams at the end, none older than a few seconds when llamatop is killed, and are replaced
by one stream as soon as they are enough.
"""

from __future__ import annotations

import bz2
import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from llamatop.errors import UsageError

MODE = 0o600
# bzip2 looks at this much at once.
FULL_BYTES = 900_000
_MAGIC = b"BZh"
_BLOCK = b"1AY&SY"
_READ_BYTES = 256 * 1024


class Gone(OSError):
    """The file was removed or replaced while it was written."""


class Tail:
    """Writes lines to a new file; raises UsageError where there is one already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, MODE)
        except FileExistsError:
            raise UsageError(
                f"--record: {path} exists; name another file or remove it first"
            ) from None
        except OSError as error:
            raise UsageError(f"--record: {path} cannot be written: {error.strerror}") from error
        self._stat = os.fstat(self._descriptor)
        # Where the small streams begin, their lines, and the lines that are not written yet.
        self._begin = self._end = 0
        self._written: list[bytes] = []
        self._waiting: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Take a line; it is in the file after the next `flush`."""
        self._waiting.append(line)

    def flush(self) -> None:
        """Write what is waiting; raises OSError where that cannot be, Gone without the file."""
        self._look()
        if not self._waiting:
            return
        lines = b"".join(self._waiting)
        size = len(lines)
        # What is large by itself gains little from being compressed a second time.
        if size >= FULL_BYTES // 3 or sum(map(len, self._written)) + size >= FULL_BYTES:
            self.close_stream()
            return
        data = bz2.compress(lines)
        self._write(data, self._end)
        self._end += len(data)
        self._written.append(lines)
        self._waiting.clear()

    def close_stream(self) -> None:
        """Make one stream of all lines since the last, in the place of the small ones."""
        lines = b"".join([*self._written, *self._waiting])
        if not lines:
            return
        data = bz2.compress(lines)
        self._write(data, self._begin)
        self._begin += len(data)
        if self._begin < self._end:
            os.ftruncate(self._descriptor, self._begin)
        self._end = self._begin
        self._written.clear()
        self._waiting.clear()

    def close(self) -> None:
        """Write what is waiting as one stream and let the file go; raises OSError."""
        try:
            self._look()
            self.close_stream()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let the file go as it is; one without a whole stream is removed. Twice is no harm."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._end == 0:
            with contextlib.suppress(OSError):
                self._look()
                self.path.unlink()

    def _look(self) -> None:
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            raise Gone(f"{self.path} was removed") from None
        if (now.st_dev, now.st_ino) != (self._stat.st_dev, self._stat.st_ino):
            raise Gone(f"{self.path} was replaced by another file")

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written


def lines(file: BinaryIO, begin: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each whole line from the stream at `begin` on, with where its stream begins.

    What is cut or damaged is left out, up to the next stream that is whole. A file of plain lines
    is read as well: there each line is a stream of its own.
    """
    file.seek(begin)
    if file.read(3) != _MAGIC:
        file.seek(begin)
        while line := file.readline():
            if line.endswith(b"\n"):
                yield begin, line
            begin += len(line)
        return
    while True:
        end = yield from _stream(file, begin)
        begin = _next(file, end)
        if begin < 0:
            return


def _stream(file: BinaryIO, begin: int) -> Generator[tuple[int, bytes], None, int]:
    """The lines of one stream; returns where the next may begin."""
    file.seek(begin)
    decompressor = bz2.BZ2Decompressor()
    rest = b""
    read = begin
    while not decompressor.eof:
        data = file.read(_READ_BYTES)
        read += len(data)
        if not data:
            return read
        try:
            text = rest + decompressor.decompress(data)
        except (OSError, EOFError, ValueError):
            return begin + 1
        *whole, rest = text.split(b"\n")
        for line in whole:
            yield begin, line + b"\n"
    return read - len(decompressor.unused_data)


def _next(file: BinaryIO, begin: int) -> int:
    """Where the first stream at or behind `begin` begins, -1 where there is none."""
    file.seek(begin)
    kept = b""
    while data := file.read(_READ_BYTES):
        text = kept + data
        place = text.find(_MAGIC)
        while place >= 0:
            if text[place + 4 : place + 10] == _BLOCK:
                return begin + place
            if place + 10 > len(text):
                break
            place = text.find(_MAGIC, place + 1)
        kept = text[-9:]
        begin += len(text) - len(kept)
    return -1

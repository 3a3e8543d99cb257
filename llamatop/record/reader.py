"""A recording read: when its frames were taken, and the document of any of them."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct, field

from llamatop.collect.events import KEEP
from llamatop.model.cluster import Event
from llamatop.record import restore
from llamatop.record.document import Document
from llamatop.record.file import lines
from llamatop.record.lines import FORMAT_MAJOR, RecordingError, patched

# So that a step back need not begin at the segment's first frame.
_CHECKPOINT_FRAMES = 20
_KEPT_SEGMENTS = 4
_NEVER = datetime.min.replace(tzinfo=UTC)
_FRAME = re.compile(rb'\{"at":"([^"]+)","tick":(\d+),"frame":(\d+),"(whole|patch)":')


class Frame(Struct, frozen=True):
    """When a frame was taken, by the wall clock there; `tick` counts the ticks of that session."""

    at: datetime
    tick: int


State = tuple[Document, tuple[Event, ...]]


class _Segment(Struct):
    """The frames from a whole document on, up to the next that begins a stream."""

    begin: int
    first: int
    lines: list[bytes] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)


class Recording:
    """The frames of the file at `path`; raises RecordingError where it is no recording.

    `complete` is false where the file ends without its end: llamatop was killed, or the disk was
    full. What is damaged is left out, up to the next whole document. With `later` only the first
    frame is known until `index` has read the rest, which takes seconds where it is long.
    """

    def __init__(self, path: Path, *, later: bool = False) -> None:
        self.path = path
        self.header: Document = {}
        self.frames: list[Frame] = []
        self.complete = False
        self._starts: list[int] = []
        self._begins: list[int] = []
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
        # Apart from what `state` reads with, which the rest is not yet known for.
        self._frames = self._index(path.open("rb"))
        try:
            next(self._frames, None)
            if not self.header:
                raise RecordingError(f"{self.path}: is no recording of llamatop")
            if not self.frames:
                raise RecordingError(f"{self.path}: nothing was recorded in it")
            if not later:
                self.index()
        except BaseException:
            self.close()
            raise

    def index(self) -> None:
        """Know all frames; no other call may be made meanwhile. Twice is no harm."""
        for _ in self._frames:
            if self._file.closed:
                return
        # What was read for the first frame ends with it.
        self._segments.clear()

    def close(self) -> None:
        """Let the file go, which ends `index` as well."""
        self._file.close()

    def state(self, place: int) -> State:
        """The document of the frame at `place` (from 0) and the events known then, oldest first.

        Raises RecordingError where the file was changed meanwhile.
        """
        segment = self._segment(bisect_right(self._starts, place) - 1)
        wanted = place - segment.first
        known = max((at for at in segment.states if at <= wanted), default=-1)
        document, events = segment.states.get(known, ({}, ()))
        for at in range(known + 1, wanted + 1):
            document, events = _next(segment.lines[at], document, events)
            if at % _CHECKPOINT_FRAMES == 0:
                segment.states[at] = (document, events)
        last = [at for at in segment.states if at % _CHECKPOINT_FRAMES]
        for at in last:
            del segment.states[at]
        segment.states[wanted] = (document, events)
        return document, events

    def _index(self, file: BinaryIO) -> Iterator[None]:
        """Frame by frame."""
        with file:
            for begin, at, tick, whole, line in self._read(file, 0):
                if not line:
                    self.complete = True
                    continue
                self.complete = False
                if whole and (not self._begins or begin != self._begins[-1]):
                    self._begins.append(begin)
                    self._starts.append(len(self.frames))
                # A clock that was set back must not make time run backwards here.
                if self.frames and at < self.frames[-1].at:
                    at = self.frames[-1].at
                self.frames.append(Frame(at, tick))
                yield

    def _segment(self, number: int) -> _Segment:
        segment = self._segments.get(number)
        if segment is None:
            begin, first = self._begins[number], self._starts[number]
            ends = [*self._starts[number + 1 : number + 2], len(self.frames)]
            segment = _Segment(begin, first)
            for *_, line in self._read(self._file, begin):
                if not line:
                    continue
                segment.lines.append(line)
                if len(segment.lines) == ends[0] - first:
                    break
            else:
                raise RecordingError(f"{self.path}: was changed while it was read")
            self._segments[number] = segment
            while len(self._segments) > _KEPT_SEGMENTS:
                self._segments.popitem(last=False)
        self._segments.move_to_end(number)
        return segment

    def _read(self, file: BinaryIO, begin: int) -> Iterator[tuple[int, datetime, int, bool, bytes]]:
        """Each frame that can be used: its stream, its time and tick, and whether it is whole.

        The end of the session is an empty line.
        """
        expected: int | None = None
        for stream, line in lines(file, begin):
            match = _FRAME.match(line)
            if match is not None:
                at = restore.moment(match[1].decode("ascii", "replace"))
                tick, number, whole = int(match[2]), int(match[3]), match[4] == b"whole"
            else:
                found = _object(line)
                if "recording" in found and not self.header:
                    self._take_header(found["recording"])
                if "ended" in found and self.header:
                    yield stream, _NEVER, 0, False, b""
                    continue
                at = restore.moment(found.get("at"))
                tick, number = _count(found.get("tick")), _count(found.get("frame"))
                whole = "whole" in found
                if not whole and "patch" not in found:
                    continue
            if not self.header:
                # Nothing before the header can be read, and no other file begins so.
                return
            if at is None or not (whole or number == expected):
                expected = None
                continue
            expected = number + 1
            yield stream, at, tick, whole, line

    def _take_header(self, header: object) -> None:
        given = restore.table(header)
        version = str(given.get("format", ""))
        major = version.partition(".")[0]
        if not major.isdecimal():
            raise RecordingError(f"{self.path}: its header names no format")
        if int(major) > FORMAT_MAJOR:
            made = f" by llamatop {given['llamatop']}" if "llamatop" in given else ""
            raise RecordingError(
                f"{self.path}: was recorded{made} in format {version}; this llamatop reads format"
                f" {FORMAT_MAJOR} and needs to be updated"
            )
        self.header = given


def _next(line: bytes, document: Document, events: tuple[Event, ...]) -> State:
    frame = _object(line)
    told = tuple(
        event
        for entry in restore.listed(frame.get("events"))
        if (event := restore.event(entry)) is not None
    )
    if "whole" in frame:
        return restore.table(frame["whole"]), told
    document = patched(document, restore.table(frame.get("patch")))
    return document, (*events, *told)[-KEEP:] if told else events


def _object(line: bytes) -> Document:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0

"""Keeps what is seen: each new snapshot as a line of a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from llamatop import __version__
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.record.document import Document, Encoder
from llamatop.record.file import Tail
from llamatop.record.lines import FORMAT_MAJOR, FORMAT_MINOR, difference, line, moment
from llamatop.record.redact import Redactor

WHOLE_SECONDS = 300.0
FLUSH_SECONDS = 5.0
_ORDERED = ("nodes", "workers", "gpus")


class Recorder:
    """Writes snapshots into a new file at `path`, which only its owner can read.

    `secrets` are texts that must not get there, beside what looks like one. Raises UsageError where
    the file exists or cannot be made; `take` and `close` raise OSError where it can no longer be
    written, and what else goes wrong. It is then closed, with the error as `fault`, and takes
    nothing more.
    """

    def __init__(
        self,
        path: Path,
        secrets: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: Exception | None = None
        self._redact = Redactor(secrets)
        self._encoder = Encoder(self._redact)
        self._clock = clock
        self._tail = Tail(path)
        self._document: Document = {}
        self._events: tuple[Event, ...] = ()
        self.last: ClusterSnapshot | None = None
        self._frame = 0
        self._whole_at = self._flushed_at = clock()

    def hide(self, secrets: Iterable[str]) -> None:
        """Keep these texts out, too; to be called before the first `take`."""
        self._redact.hide(secrets)

    def take(self, snapshot: ClusterSnapshot) -> None:
        """Keep the snapshot; it is in the file a few seconds later at most, or after `close`.

        One that was kept last is not kept again.
        """
        if self.fault is not None or snapshot is self.last:
            return
        self.last = snapshot
        try:
            self._take(snapshot)
        except Exception as error:
            self.fault = error
            self._tail.abandon()
            raise

    def _take(self, snapshot: ClusterSnapshot) -> None:
        now = self._clock()
        if self._frame == 0:
            self._tail.add(line(self._header(snapshot)))
        before, self._document = self._document, self._encoder.document(snapshot)
        frame: Document = {
            "at": moment(snapshot.taken_at),
            "tick": snapshot.tick,
            "frame": self._frame,
        }
        whole = (
            self._frame == 0
            or now - self._whole_at >= WHOLE_SECONDS
            or _order(before) != _order(self._document)
        )
        if whole:
            if self._frame:
                self._tail.close_stream()
            self._whole_at = now
            frame["whole"] = self._document
            frame["events"] = self._told(snapshot.events)
        else:
            frame["patch"] = difference(self._document, before)
            if told := self._told(self._new(snapshot.events)):
                frame["events"] = told
        self._events = snapshot.events
        self._tail.add(line(frame))
        self._frame += 1
        if now - self._flushed_at >= FLUSH_SECONDS or self._frame == 1:
            self._flushed_at = now
            self._tail.flush()

    def close(self) -> None:
        """Write what is still waiting and that this is the end, and let the file go."""
        if self.fault is not None:
            return
        self._tail.add(line({"ended": True}))
        try:
            self._tail.close()
        except OSError as error:
            self.fault = error
            raise

    def abandon(self) -> None:
        """Let the file go as it is; one in which nothing is is removed. Twice is no harm."""
        self._tail.abandon()

    def _header(self, snapshot: ClusterSnapshot) -> Document:
        return {
            "recording": {
                "format": f"{FORMAT_MAJOR}.{FORMAT_MINOR}",
                "llamatop": __version__,
                "cluster": self._redact(snapshot.cluster.name),
                "begun_at": moment(snapshot.taken_at),
                "interval_seconds": snapshot.cluster.interval_seconds,
            }
        }

    def _new(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Those that came since the last snapshot: the log forgets at its beginning alone."""
        if events is self._events or not events:
            return ()
        if not self._events:
            return events
        last = self._events[-1]
        for place in range(len(events) - 1, -1, -1):
            if events[place] is last or events[place] == last:
                return events[place + 1 :]
        return events

    def _told(self, events: Iterable[Event]) -> list[Document]:
        return [{"at": moment(one.at), **self._encoder.plain(one)} for one in events]


def _order(document: Document) -> list[object]:
    """What stands in which order: a patch can neither put in between nor reorder."""
    found: list[object] = [list(document.get(part, ())) for part in _ORDERED]
    found += [list(cards) for cards in document.get("gpus", {}).values()]
    found += [list(node["units"]) for node in document.get("nodes", {}).values()]
    return found

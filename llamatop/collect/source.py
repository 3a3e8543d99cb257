"""What the faces (screen, command line) read a cluster through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Cluster


class History(Protocol):
    """The last minutes, one value a tick, oldest first, None where it was unknown."""

    def generation(self, worker: str) -> Sequence[float | None]:
        """Generation tokens per second of a worker (`node/short`)."""

    def prompt(self, worker: str) -> Sequence[float | None]:
        """Prompt tokens per second of a worker."""

    def slots_busy(self, worker: str) -> Sequence[float | None]:
        """Busy slots of a worker."""

    def gpu_utilization(self, node: str, uuid: str) -> Sequence[float | None]:
        """Utilization in percent of one card."""

    def total_generation(self) -> Sequence[float | None]:
        """Generation tokens per second of the whole cluster."""


class Source(Protocol):
    """A live cluster: the latest snapshot, every next one, the past, and the journals."""

    @property
    def cluster(self) -> Cluster:
        """What the operator declared."""

    @property
    def latest(self) -> ClusterSnapshot:
        """The newest snapshot; before the first tick one in which nothing is known yet."""

    @property
    def history(self) -> History:
        """The ring buffers behind the sparklines."""

    def snapshots(self) -> AsyncIterator[ClusterSnapshot]:
        """Each new snapshot, one a tick or sooner; a slow reader gets only the newest."""

    def journal(self, worker: str, lines: int = 200, follow: bool = True) -> AsyncIterator[str]:
        """The unit's journal, one entry a line, as `journalctl -u UNIT -n LINES -f -o short-iso`.

        Raises NodeError where the node cannot be reached or the journal may not be read.
        """

    def shell_argv(self, node: str) -> list[str]:
        """The local command for a shell on the node; raises NodeError where it has no ssh."""


class Position(Struct, frozen=True):
    """Where in a recording its reader is; `speed` is in seconds of it for each that passes.

    `complete` is false where the recording was cut off, `seeking` true while a moment is read.
    """

    at: datetime
    first: datetime
    last: datetime
    paused: bool
    speed: float
    ended: bool
    complete: bool
    seeking: bool = False


class Playback(Source, Protocol):
    """A cluster as it was recorded; each change of the position brings a snapshot."""

    @property
    def position(self) -> Position:
        """Where it is."""

    def pause(self, paused: bool | None = None) -> None:
        """Stand still or play on; without `paused` the other of the two. At the end, begin anew."""

    def step(self, frames: int) -> None:
        """Stand still that many frames later, or earlier where it is negative."""

    def faster(self, steps: int = 1) -> None:
        """Play that many steps of speed faster, slower where it is negative."""

    def seek(self, at: datetime) -> None:
        """Go to that time, or to the end that is nearer."""

    def part(self, share: float) -> None:
        """Go to that share of the whole, 0 to 1."""

    def skip(self, seconds: float) -> None:
        """Go that much further, or back where it is negative."""

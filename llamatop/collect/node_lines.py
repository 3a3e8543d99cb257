"""What one node's probe says, line by line, as snapshots of the node."""

from __future__ import annotations

import json
import typing

from llamatop.collect import merge, ticks
from llamatop.collect.decode import Decoder, Document
from llamatop.collect.upstreams import Upstreams
from llamatop.model.observed import NodeSnapshot


class NodeLines:
    """Reads the lines of one probe, from its first on.

    `document` is what they say all together, but for the figures that move at every tick: those
    are in the snapshots alone.
    """

    def __init__(self, node: str) -> None:
        self.document: Document = {}
        self._decoder = Decoder(node)
        self._upstreams = Upstreams()
        self._latest: NodeSnapshot | None = None

    def read(self, line: bytes, received_at: float) -> NodeSnapshot | None:
        """The node after this line; None where it is no JSON object.

        `received_at` is this side's monotonic clock in seconds. A wrong part is told in `faults`.
        """
        snapshot = None
        if self._latest is not None:
            tick = ticks.read(line)
            if tick is not None:
                snapshot = self._decoder.moved(tick, self._latest, received_at)
        if snapshot is None:
            patch = _patch(line)
            if patch is None:
                return None
            document = merge.apply(self._decoder.caught_up(self.document), patch)
            self.document = typing.cast("Document", document)
            snapshot = self._decoder.snapshot(self.document, received_at, patch)
            snapshot = self._upstreams.complete(snapshot, self.document)
        self._latest = snapshot
        return snapshot


def _patch(line: bytes) -> Document | None:
    """The line's object, None where it is anything else."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

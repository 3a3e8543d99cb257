"""What the background tasks tell the app; only handlers change what is shown."""

from __future__ import annotations

from textual.message import Message

from llamatop.model.cluster import ClusterSnapshot


class SnapshotArrived(Message):
    """A newer snapshot of the cluster."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class SourceFailed(Message):
    """The source ended; `text` says why and what mends it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class JournalArrived(Message):
    """Lines of a journal in order; `fault` is the sentence it ended with, None while it goes on."""

    def __init__(self, worker: str, lines: tuple[str, ...], fault: str | None = None) -> None:
        super().__init__()
        self.worker = worker
        self.lines = lines
        self.fault = fault


class PlanChanged(Message):
    """The one plan was made, moved on, or ended."""


class RowSelected(Message):
    """The cursor of the worker table stands on another row, None where there is none."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.name = name


class RowOpened(Message):
    """A row was clicked when it was selected already."""


class NodePointed(Message):
    """A node's cards were clicked."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node


class Folded(Message):
    """A node was folded or unfolded: the table has other lines."""

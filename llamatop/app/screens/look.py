"""The chosen hosts looked at, live: connecting, what each has, or what is in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import fit, fit_middle, piece, wrap
from llamatop.app.screens.asking import AskingScreen
from llamatop.app.screens.dialog import Body
from llamatop.collect.source import Source
from llamatop.errors import LlamatopError
from llamatop.model.cluster import ClusterSnapshot, NodeView, WorkerView
from llamatop.model.text import plain


class Look(Source, Protocol):
    """Hosts that are being read."""

    def settled(self, node: str) -> bool:
        """Whether `latest` shows the node read whole, or why it cannot be."""


Looks = Callable[[Sequence[str]], AbstractAsyncContextManager[Look]]


class LookScreen(AskingScreen):
    """Connects while it is on the screen; posts Write or Open for what it found."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "write", show=False),
        Binding("o", "open", show=False),
        Binding("escape", "back", show=False),
    ]
    DEFAULT_CSS = "LookScreen Body { height: 1fr; background: $background; }"

    @dataclass
    class Write(Message):
        """Write this down."""

        snapshot: ClusterSnapshot

    @dataclass
    class Open(Message):
        """Open the dashboard over these hosts."""

        hosts: Sequence[str]

    @dataclass
    class Seen(Message):
        """A new snapshot, and the nodes that are not read whole yet."""

        snapshot: ClusterSnapshot
        reading: frozenset[str]

    @dataclass
    class Failed(Message):
        """There is nothing to look at."""

        reason: str

    def __init__(self, palette: Palette, hosts: Sequence[str], looks: Looks) -> None:
        super().__init__(palette)
        self.hosts = hosts
        self._looks = looks
        self._latest: ClusterSnapshot | None = None
        self._reading: frozenset[str] = frozenset()
        self._reason: str | None = None
        self.body = Body(palette)

    def middle(self) -> Sequence[Widget]:
        """What was found, node by node."""
        return (self.body,)

    def on_mount(self) -> None:
        """Begin to look."""
        super().on_mount()
        self.body.focus()
        self.run_worker(self._look(), exclusive=True)

    async def _look(self) -> None:
        try:
            async with self._looks(self.hosts) as source:
                self.post_message(self._seen(source, source.latest))
                async for snapshot in source.snapshots():
                    self.post_message(self._seen(source, snapshot))
        except LlamatopError as error:
            self.post_message(self.Failed(str(error)))

    def _seen(self, source: Look, snapshot: ClusterSnapshot) -> Seen:
        names = (node.name for node in snapshot.nodes)
        return self.Seen(snapshot, frozenset(name for name in names if not source.settled(name)))

    def on_look_screen_seen(self, message: Seen) -> None:
        """Show it."""
        self._latest, self._reading = message.snapshot, message.reading
        self.show()

    def on_look_screen_failed(self, message: Failed) -> None:
        """Show why."""
        self._reason = message.reason
        self.show()

    @property
    def _writable(self) -> ClusterSnapshot | None:
        """What was read, once every node that answers was read whole."""
        if self._latest is None:
            return None
        read = [node.name for node in self._latest.nodes if node.reachable]
        return self._latest if read and not self._reading.intersection(read) else None

    def action_write(self) -> None:
        """Only what was read can be written down."""
        if self._writable is None:
            self.app.bell()
        else:
            self.post_message(self.Write(self._writable))

    def action_open(self) -> None:
        """The dashboard tells more than this screen, of hosts that cannot be read as well."""
        if self._reason is None:
            self.post_message(self.Open(self.hosts))
        else:
            self.app.bell()

    def action_back(self) -> None:
        """To the question."""
        self.dismiss()

    def show(self) -> None:
        """The sum in the head, the nodes below it."""
        palette, width = self.palette, max(20, self.size.width)
        self.say_head((piece(f" {fit(self._sum(), width - 2)}", palette["heading"]), Text()))
        lines = list(self._lines(width - 2))
        self.body.show(lines)
        back, opens = ("esc", "back"), ("o", "just open")
        if self._writable is not None:
            self.say_keys(("enter", "write"), opens, back)
        elif self._reason is None:
            self.say_keys(opens, back)
        else:
            self.say_keys(back)

    def _sum(self) -> str:
        snapshot = self._latest
        if self._reason is not None:
            return "these cannot be looked at"
        if snapshot is None:
            return f"looking at {', '.join(self.hosts)} …"
        read = sum(node.reachable for node in snapshot.nodes)
        parts = [
            f"{read} of {len(snapshot.nodes)} read",
            f"{len(snapshot.gpus)} GPUs",
            f"{len(snapshot.workers)} workers",
        ]
        upstreams = Counter(member.upstream for member in snapshot.members)
        parts += [f"upstream {name} ({count})" for name, count in upstreams.most_common(2)]
        return " · ".join(parts)

    def _lines(self, width: int) -> Iterator[Text]:
        palette = self.palette
        if self._reason is not None:
            for line in self._reason.splitlines():
                yield from (piece(f" {part}", palette["health.bad"]) for part in wrap(line, width))
        snapshot = self._latest
        if snapshot is not None:
            for node in snapshot.nodes:
                yield from self._node(node, snapshot, width)
                yield Text()

    def _node(self, node: NodeView, snapshot: ClusterSnapshot, width: int) -> Iterator[Text]:
        palette = self.palette
        if node.reachable:
            head = piece(" ● ", palette["worker.ok"])
            mine = (gpu.sample.name for gpu in snapshot.gpus if gpu.node == node.name)
            names = Counter(name or "a card" for name in mine)
            about = ", ".join(f"{count} × {name}" for name, count in names.items())
            known = "reading …" if node.name in self._reading else "no GPU is known"
            about = about or known
        elif node.fault:
            head, about = piece(" ✗ ", palette["health.bad"]), "cannot be read"
        else:
            head, about = piece(" ○ ", palette["worker.loading"]), "connecting …"
        head.append(plain(node.name), palette["heading"])
        head.append(f"  {plain(about)}", palette["dim"])
        yield head
        if node.fault:
            style = palette["event.warning" if node.reachable else "health.bad"]
            yield from (piece(f"   {part}", style) for part in wrap(node.fault, width - 2))
        workers = [worker for worker in snapshot.workers if worker.node == node.name]
        room = max((len(worker.name) for worker in workers), default=0)
        for worker in workers:
            yield self._worker(worker, min(room, width // 2), width)
        if node.reachable and not (workers or node.fault or node.name in self._reading):
            yield piece("   no unit runs llama-server, Ollama or vLLM", palette["dim"])

    def _worker(self, worker: WorkerView, room: int, width: int) -> Text:
        palette, sample = self.palette, worker.sample
        well = sample.health in ("ok", "busy")
        text = piece(f"   {fit(worker.name, room)}", palette["text"])
        text.append(f"  {sample.engine or '–'}", palette["dim"])
        state = sample.health or worker.unit.active_state or "–"
        text.append(f"  {plain(state)}", palette["worker.ok" if well else "worker.fault"])
        if worker.gpus:
            text.append(f"  GPU {','.join(map(str, worker.gpus))}", palette["dim"])
        left = width - text.cell_len - 2
        if sample.model and left > 8:
            text.append(f"  {fit_middle(sample.model, left).rstrip()}", palette["text"])
        return text

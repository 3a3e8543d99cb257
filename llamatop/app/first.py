"""The first run: no cluster is named, so hosts to look at are offered, or the demo."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct
from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import NoColor

from llamatop.app import remembered, terminal, themes
from llamatop.app.screens.draft import DraftScreen
from llamatop.app.screens.hosts import HostsScreen
from llamatop.app.screens.look import Look, LookScreen
from llamatop.model.cluster import ClusterSnapshot


class Choice(Struct, frozen=True):
    """What to open: a file that was written, these ssh hosts without one, or the demo."""

    hosts: tuple[str, ...] = ()
    demo: bool = False
    file: Path | None = None


class Scout(Protocol):
    """What looks at hosts and writes down what is there; the screens only ask it to."""

    @property
    def places(self) -> Sequence[Path]:
        """Where a cluster file can lie so that it is found without being named, best first."""

    def looks(self, hosts: Sequence[str]) -> AbstractAsyncContextManager[Look]:
        """These hosts, read live and no others; raises LlamatopError where one can be none."""

    def text(self, snapshot: ClusterSnapshot, place: Path) -> str:
        """The cluster file of what was seen, as it would lie at `place`."""

    def write(self, place: Path, text: str) -> None:
        """Put the file there; raises LlamatopError where that cannot be, or another is there."""


class FirstRunApp(App[Choice | None]):
    """Returns the Choice, None where the person left."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: $background; layout: vertical; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
    ]

    def __init__(self, hosts: Sequence[str], scout: Scout, *, theme: str | None = None) -> None:
        super().__init__()
        loaded, self._fault = themes.load_or_fallback((theme, remembered.theme()), self.no_color)
        self.register_theme(loaded.textual)
        self.theme = loaded.textual.name
        self.palette = loaded.palette
        self.hosts = hosts
        self.scout = scout
        if self.no_color:
            self._filters = [NoColor()]

    def get_driver_class(self) -> type[Driver]:
        """The terminal, or what tests put in its place."""
        return terminal.over(super().get_driver_class())

    def hung_up(self) -> None:
        """Nobody is there any more."""
        self.exit(return_code=terminal.HUNG_UP)

    def on_mount(self) -> None:
        """Ask."""
        self.push_screen(HostsScreen(self.palette, self.hosts))
        if self._fault:
            self.notify(self._fault, severity="warning", markup=False)

    def on_hosts_screen_chosen(self, message: HostsScreen.Chosen) -> None:
        """Look at them; the demo needs no look."""
        if not message.hosts:
            self.exit(Choice(demo=True))
        else:
            self.push_screen(LookScreen(self.palette, message.hosts, self.scout.looks))

    def on_look_screen_open(self, message: LookScreen.Open) -> None:
        """The dashboard without a file."""
        self.exit(Choice(tuple(message.hosts)))

    def on_look_screen_write(self, message: LookScreen.Write) -> None:
        """Show what would be written, and where."""
        self.push_screen(DraftScreen(self.palette, message.snapshot, self.scout))

    def on_draft_screen_written(self, message: DraftScreen.Written) -> None:
        """The dashboard over the file."""
        self.exit(Choice(file=message.place))

"""The dashboard: owns the latest snapshot and the one plan; screens draw them, keys move them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.driver import Driver
from textual.events import Event, Key
from textual.filter import NoColor

from llamatop.app import remembered, terminal, themes
from llamatop.app.changing import ChangingApp
from llamatop.app.judging import Judging
from llamatop.app.messages import SnapshotArrived, SourceFailed
from llamatop.app.render.layout import tiny
from llamatop.app.render.palette import Palette
from llamatop.app.screens.cluster import ClusterScreen
from llamatop.app.screens.dialog import Dialog
from llamatop.app.screens.main import MainScreen
from llamatop.app.switches import Switches
from llamatop.app.turns import Turns
from llamatop.collect.source import History, Source
from llamatop.errors import LlamatopError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.operate.operator import Operator

Opened = AbstractAsyncContextManager[tuple[Source, Operator | None]]
SILENCE_TICKS = 4


class LlamatopApp(ChangingApp):
    """Shows what `source` reads; changes things through `operator`, not at all without one.

    `opens` is for a source that takes time to make: it is entered after the first paint, left at
    the end, and gives what `source` and `operator` then are; `first` is shown until then. With
    `switches` a key brings faults on, and takes them back.
    """

    TITLE = "llamatop"
    # How often something is looked for that comes without a snapshot.
    look_seconds = 0.5
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        source: Source | None,
        operator: Operator | None,
        *,
        theme: str | None = None,
        read_only: bool = False,
        opens: Callable[[], Opened] | None = None,
        first: ClusterSnapshot | None = None,
        clock: Callable[[], float] = time.monotonic,
        switches: Switches | None = None,
    ) -> None:
        super().__init__()
        latest = first if source is None else source.latest
        if latest is None:
            raise ValueError("without a source the app needs a first snapshot")
        self.source = source
        self.operator = operator
        self.read_only = read_only
        # Why nothing can be changed, in a word.
        self.mode = "read-only" if read_only else ""
        self.snapshot: ClusterSnapshot = latest
        self.silent_seconds: float | None = None
        self._opens = opens
        self.clock = clock
        self.switches = switches
        self.turns = Turns(self.set_timer)
        self.judging = Judging(self)
        self._arrived_at: float | None = None
        self._theme_fault: str | None = None
        self.palette = self._load_theme(theme)

    @property
    def history(self) -> History | None:
        """What was before; None until there is a source."""
        return self.source.history if self.source is not None else None

    def _load_theme(self, name: str | None) -> Palette:
        loaded, self._theme_fault = themes.load_or_fallback(
            (name, remembered.theme()), self.no_color
        )
        self.register_theme(loaded.textual)
        self.theme = loaded.textual.name
        if self.no_color:
            # Textual's own filter would turn colours into greys; NO_COLOR means none.
            self._filters = [NoColor()]
        return loaded.palette

    def get_driver_class(self) -> type[Driver]:
        """The terminal, or what tests put in its place."""
        return terminal.over(super().get_driver_class())

    def hung_up(self) -> None:
        """Nobody is there any more."""
        self.roll_back_and_quit(terminal.HUNG_UP)

    def get_default_screen(self) -> MainScreen:
        """The main screen."""
        return MainScreen(self.read_only)

    def on_mount(self) -> None:
        """Paint first, then open what takes time."""
        if self.switches is not None:
            self.bind("F,shift+f", "switches", show=False)
            self.say("this is the demo: F brings faults on and takes them back")
        if self._theme_fault:
            self.say(self._theme_fault, "warning")
        self.set_interval(self.look_seconds, self._look)
        self.judging.take(self.snapshot)

    def on_ready(self) -> None:
        """The first frame has been painted."""
        self.run_worker(self._read(), name="read", exit_on_error=True)

    async def _read(self) -> None:
        try:
            async with self._opened() as (source, operator):
                self.source, self.operator = source, operator
                async for snapshot in source.snapshots():
                    self.post_message(SnapshotArrived(snapshot))
        except LlamatopError as error:
            self.post_message(SourceFailed(str(error)))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Source, Operator | None]]:
        if self._opens is not None:
            async with self._opens() as opened:
                yield opened
        elif self.source is not None:
            yield self.source, self.operator

    def on_snapshot_arrived(self, message: SnapshotArrived) -> None:
        """Every screen draws the new snapshot."""
        self.snapshot = message.snapshot
        self._arrived_at = self.clock()
        self.silent_seconds = None
        self.judging.take(message.snapshot)
        self.draw()
        self.offer_leftovers(message.snapshot)

    def on_source_failed(self, message: SourceFailed) -> None:
        """Keep what is there and say why it stands still."""
        self.say(message.text, "error")

    def draw(self) -> None:
        """Every screen that is seen draws what is known, panel by panel."""
        self.turns.do(self._showing())

    def _showing(self) -> Iterator[None]:
        covered = False
        for screen in reversed(self.screen_stack):
            if isinstance(screen, ClusterScreen):
                screen.covered = covered
                if not covered:
                    yield from screen.showing()
            elif isinstance(screen, Dialog) and not covered:
                screen.show()
            covered = covered or not screen.is_modal

    async def on_event(self, event: Event) -> None:
        """A key goes before the figures until what it changes is painted."""
        keys = self.turns.keys
        # It comes twice: what it is bound to is done when no widget has taken it.
        last = isinstance(event, Key) and event.is_forwarded
        await super().on_event(event)
        if last and self.turns.waiting:
            self.screen.call_after_refresh(self.turns.answered, keys)

    def totals_only(self) -> bool:
        """Whether the terminal has room for the totals alone, and nothing lies over them."""
        return tiny(*self.size) and len(self.screen_stack) <= 1

    def _look(self) -> None:
        """A source that has gone silent is said to be."""
        if self._arrived_at is not None:
            silent = self.clock() - self._arrived_at
            late = silent > SILENCE_TICKS * self.snapshot.cluster.interval_seconds
            seconds = float(int(silent)) if late else None
            if seconds != self.silent_seconds:
                self.silent_seconds = seconds
                self.draw()

    def open_detail(self, name: str) -> None:
        """One worker, full screen."""
        from llamatop.app.screens.detail import DetailScreen

        self.push_screen(DetailScreen(name, self.read_only))

    def action_log(self) -> None:
        """The journal of what is selected, full screen."""
        from llamatop.app.screens.logs import LogScreen

        screen = self.current()
        unit = screen.unit() if screen else None
        if unit is not None and not isinstance(screen, LogScreen):
            self.push_screen(LogScreen(unit, self.read_only))

    async def action_shell(self) -> None:
        """Hand the terminal to a shell on the node of what is selected, and take it back."""
        from llamatop.app.shell import run_shell

        screen = self.current()
        node = screen.node() if screen else None
        if node is not None and self.source is not None:
            await run_shell(self, self.source, node)

    def action_topology(self) -> None:
        """How the cards hang together."""
        from llamatop.app.screens.topology import TopologyScreen

        screen = self.current()
        if screen is not None and not isinstance(screen, TopologyScreen):
            self.push_screen(TopologyScreen(screen.node(), self.read_only))

    def action_advice(self) -> None:
        """What is wrong and what could be better, in full."""
        from llamatop.app.screens.advice import AdviceScreen

        if not isinstance(self.current(), AdviceScreen):
            self.push_screen(AdviceScreen(self.read_only))
            self.judging.seen()

    def action_switches(self) -> None:
        """Faults to bring on."""
        from llamatop.app.screens.switches import SwitchesScreen

        if self.switches is not None and not isinstance(self.screen, SwitchesScreen):
            self.push_screen(SwitchesScreen(self.switches))

    def more_keys(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Keys beside those of `actions`, by heading: how each is shown and what it does."""
        return {}

    def action_help(self) -> None:
        """Every key."""
        from llamatop.app.screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_command_palette(self) -> None:
        """Every action and theme by name."""
        from llamatop.app.commands import Commands

        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(providers=[Commands]))

    def save_picture(self) -> None:
        """Write the screen as it is into an SVG file in the current directory."""
        try:
            self.say(f"saved {self.save_screenshot(path='.')}")
        except OSError as error:
            self.say(f"cannot save here: {error.strerror}", "error")

    def use_theme(self, name: str) -> None:
        """Show everything in another theme, from now on also the next time; or say why not."""
        try:
            loaded = themes.load(name)
        except LlamatopError as error:
            self.say(str(error), "error")
            return
        self.register_theme(loaded.textual)
        self.theme = loaded.textual.name
        if not self.no_color:
            self.palette = loaded.palette
        try:
            remembered.remember(name)
        except OSError as error:
            self.say(f"the theme is not remembered: {error.strerror}", "warning")
        for screen in self.screen_stack:
            if isinstance(screen, ClusterScreen | Dialog):
                screen.repalette()

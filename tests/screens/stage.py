"""The app on a stage: over a fake cluster, with a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.app import App
from textual.pilot import Pilot

from llamatop.app.app import LlamatopApp
from llamatop.app.screens.main import MainScreen
from llamatop.app.widgets.journal import JournalView
from llamatop.app.widgets.workers import WorkerTable
from llamatop.model.cluster import ClusterSnapshot
from tests.screens.clusters import well
from tests.screens.fake import FakeOperator, FakeSource


class Stage(LlamatopApp):
    """The app with its fakes in reach."""

    def __init__(
        self,
        snapshot: ClusterSnapshot | None = None,
        *,
        theme: str | None = None,
        read_only: bool = False,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.fake = FakeSource(snapshot or well())
        self.hand = FakeOperator()
        self.copied = ""
        super().__init__(self.fake, self.hand, theme=theme, read_only=read_only, clock=clock)
        self.judging.pause_seconds = 0.05

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text

    @property
    def main(self) -> MainScreen:
        screen = self.screen_stack[0]
        assert isinstance(screen, MainScreen)
        return screen

    @property
    def table(self) -> WorkerTable:
        return self.main.table

    def shown(self) -> str:
        """What stands on the screen, as text."""
        return shown(self)


def shown(app: App[object]) -> str:
    """What stands on the screen, as text."""
    lines = []
    for strip in app.screen._compositor.render_strips():
        lines.append("".join(segment.text for segment in strip).rstrip())
    return "\n".join(lines)


async def until(pilot: Pilot[None], true: Callable[[], bool], what: str) -> None:
    """Let the app work until `true`; fails with what the screen shows after half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if true():
            await pilot.pause()
            return
        await pilot.pause(0.01)
    raise AssertionError(f"{what} never came; the screen shows:\n{shown(pilot.app)}")


async def settled(pilot: Pilot[None]) -> None:
    """Wait until every journal in view has its lines."""
    await pilot.pause()
    journals = [view for view in pilot.app.screen.query(JournalView) if view.is_on_screen]
    for view in journals:
        await until(pilot, lambda view=view: view.entry_count() > 0, "the journal")  # type: ignore[misc]
    await pilot.pause()

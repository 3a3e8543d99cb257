"""The dashboard over a recording: the same screens, nothing to change, and keys to move in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.app import LlamatopApp
from llamatop.app.render import replay
from llamatop.app.screens.seek import SeekScreen
from llamatop.collect.source import Playback, Position

# Key, how it is shown, the action, what it does.
KEYS = (
    ("space", "space", "play", "play on, or stand still"),
    ("full_stop", ".", "step(1)", "a frame further"),
    ("comma", ",", "step(-1)", "a frame back"),
    ("greater_than_sign", ">", "skip(60)", "a minute further"),
    ("less_than_sign", "<", "skip(-60)", "a minute back"),
    ("right_square_bracket", "]", "faster(1)", "faster"),
    ("left_square_bracket", "[", "faster(-1)", "slower"),
    ("T,shift+t", "T", "seek", "go to a time"),
    ("0,1,2,3,4,5,6,7,8,9", "0 … 9", "", "go to the beginning, to a tenth of it, …"),
)


class ReplayApp(LlamatopApp):
    """Shows what `playback` plays."""

    look_seconds = 0.125
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, action, text, show=False) for key, _, action, text in KEYS if action),
        *(Binding(str(tenth), f"tenth({tenth})", show=False) for tenth in range(10)),
    ]

    def __init__(
        self,
        playback: Playback,
        *,
        theme: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(playback, None, theme=theme, read_only=True, clock=clock)
        self.mode = "replay"
        # Who goes to another moment wants its findings, not those of the one before.
        self.judging.pause_seconds = 0.5
        self.playback = playback
        self._drawn: tuple[Position, int] | None = None

    def _look(self) -> None:
        """What stands still is no source gone silent; where it is is said anew."""
        drawn = (self.playback.position, self.size.width)
        if drawn != self._drawn:
            self._drawn = drawn
            self.draw_plan()

    def more_keys(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Those that move in time."""
        return {"move in time": [(shown, text) for _, shown, _, text in KEYS]}

    def plan_status(self) -> Text:
        """In the place of a plan that runs: where in the recording this is."""
        return replay.line(self.playback.position, self.size.width, self.palette)

    def action_show_plan(self) -> None:
        """A click on that line."""
        self.action_play()

    def action_play(self) -> None:
        """Play on, or stand still."""
        self.playback.pause()

    def action_step(self, frames: int) -> None:
        """Stand still so many frames further."""
        self.playback.step(frames)

    def action_skip(self, seconds: float) -> None:
        """Go on from so many seconds further."""
        self.playback.skip(seconds)

    def action_faster(self, steps: int) -> None:
        """Play faster, or slower."""
        self.playback.faster(steps)

    def action_tenth(self, tenth: int) -> None:
        """Go to so many tenths of the whole."""
        self.playback.part(tenth / 10)

    def action_seek(self) -> None:
        """Ask for the time to go to."""

        def go(to: datetime | float | None) -> None:
            if isinstance(to, datetime):
                self.playback.seek(to)
            elif to is not None:
                self.playback.part(to)

        if not isinstance(self.screen, SeekScreen):
            self.push_screen(SeekScreen(lambda: self.playback.position), go)

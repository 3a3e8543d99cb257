"""A list of faults to bring on and take back; for clusters to practise on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llamatop.app.render.words import fit, piece
from llamatop.app.screens.dialog import Dialog
from llamatop.app.switches import Switch, Switches


class SwitchesScreen(Dialog):
    """Turns the selected fault with space or enter; closes with esc, F and q."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,F,shift+f,q", "dismiss", show=False),
        Binding("j,down", "move(1)", show=False, priority=True),
        Binding("k,up", "move(-1)", show=False, priority=True),
        Binding("space,enter", "turn", show=False),
    ]

    def __init__(self, switches: Switches) -> None:
        super().__init__()
        self.switches = switches
        self.listed: Sequence[Switch] = ()
        self.place = 0

    def heading(self) -> Text:
        """The title."""
        return piece(" faults to bring on", self.top.palette["brand"])

    def lines(self, width: int) -> list[Text]:
        """One a line; what is on is marked as what is wrong is everywhere."""
        palette = self.top.palette
        self.listed = self.switches.listed()
        self.place = max(0, min(self.place, len(self.listed) - 1))
        if not self.listed:
            return [
                Text(),
                piece(" none: the demo is starting, or has ended", palette["dim"]),
                Text(),
            ]
        names = max(len(switch.kind) for switch in self.listed)
        made = []
        for place, switch in enumerate(self.listed):
            role = "event.error" if switch.on else "text"
            text = Text(" ", no_wrap=True)
            text.append("✗ " if switch.on else "  ", palette[role])
            text.append(f"{switch.kind:<{names}}  ", palette[role])
            text.append(fit(switch.about, max(8, width - names - 6)), palette["dim"])
            text.pad_right(max(0, width - text.cell_len))
            if place == self.place:
                text.stylize(palette["cursor"])
            made.append(text)
        return made

    def footing(self) -> Text:
        """The keys."""
        return self.hints(("space", "bring on, take back"), ("j k", "move"), ("esc", "close"))

    def action_move(self, by: int) -> None:
        """Select another."""
        self.place = max(0, min(self.place + by, len(self.listed) - 1))
        self.show()
        self.body.scroll_to(y=self.place - self.body.size.height // 2, animate=False)

    def action_turn(self) -> None:
        """Bring the selected one on, or take it back."""
        if self.listed:
            try:
                self.switches.turn(self.listed[self.place].kind)
            except OSError as error:
                self.top.say(f"the demo does not hear: {error.strerror or error}", "error")
        self.show()

"""The lines at the bottom: the plan in the background, and the keys."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual import events

from llamatop.app.actions import keys
from llamatop.app.widgets.lines import Lines


class StatusLine(Lines):
    """One line of text that its screen gives it."""

    DEFAULT_CSS = "StatusLine { overflow-y: hidden; }"

    text = Text()

    def count(self) -> int:
        """One."""
        return 1

    def line(self, place: int, width: int) -> Text:
        """What it was given."""
        return self.text

    def show(self, text: Text) -> None:
        """Take the text."""
        self.text = text
        self.redraw()

    async def on_click(self) -> None:
        """A click does what it says."""
        await self.app.run_action("app.show_plan")


class KeyLine(Lines):
    """The keys in short, as many as fit; a click presses one."""

    DEFAULT_CSS = "KeyLine { overflow-y: hidden; }"

    read_only = False
    left_out: frozenset[str] = frozenset({"back"})
    wanted: frozenset[str] = frozenset()

    def count(self) -> int:
        """One."""
        return 1

    def line(self, place: int, width: int) -> Text:
        """Keys and words; what is wanted now, back, help and quit are the last to leave."""
        listed = [
            key for key in keys(self.read_only) if key.brief and key.brief not in self.left_out
        ]
        last = {"back", "help", "quit"} | self.wanted
        order = sorted(listed, key=lambda key: key.brief not in last)
        kept = []
        used = 1
        for key in order:
            used += len(key.shown) + len(key.brief) + 3
            if used <= width + 1:
                kept.append(key)
        text = Text(" ", no_wrap=True)
        for key in listed:
            if key in kept:
                meta = Style(meta={"press": key.action})
                text.append(key.shown, self.palette["key"] + meta)
                text.append(f" {key.brief}", self.palette["dim"] + meta)
                text.append("  ")
        return text

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the mouse does."""
        action = event.style.meta.get("press")
        if isinstance(action, str):
            await self.screen.run_action(action)

"""The panel of what happened."""

from __future__ import annotations

from rich.text import Text

from llamatop.app.render import events as render
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import Lines
from llamatop.model.cluster import ClusterSnapshot, Event


class EventPanel(Lines, can_focus=True):
    """Newest first, so that what just happened is always in view."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self._events: tuple[Event, ...] = ()
        self.spaced = True

    def show(self, snapshot: ClusterSnapshot) -> None:
        """Take the latest events."""
        self._events = tuple(sorted(snapshot.events, key=lambda event: event.at, reverse=True))
        self.redraw()

    def sticky(self) -> list[Text]:
        """A blank line where there is room, and the heading."""
        heading = piece(" events", self.palette["key" if self.has_focus else "heading"])
        if not self._events:
            heading.append("  nothing yet", self.palette["faint"])
        return [Text()] * self.spaced + [heading]

    def count(self) -> int:
        """One an event."""
        return len(self._events)

    def line(self, place: int, width: int) -> Text:
        """The event at `place`, newest first."""
        return render.line(self._events[place], width, self.palette)

"""The lines at the top: totals, and below them what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from llamatop.app.render import advice
from llamatop.app.render.alerts import Alert
from llamatop.app.render.alerts import lines as alert_lines
from llamatop.app.render.totals import figures, headline, tiny
from llamatop.app.widgets.lines import Lines
from llamatop.model.cluster import ClusterSnapshot

if TYPE_CHECKING:
    from llamatop.advise.doctor import Diagnosis


class Totals(Lines):
    """Health, nodes, workers and the clock; tokens, slots and queue; or the tiny screen."""

    DEFAULT_CSS = "Totals { overflow-y: hidden; }"

    snapshot: ClusterSnapshot
    history: Sequence[float | None] = ()
    found: Sequence[Alert] = ()
    silent_seconds: float | None = None
    diagnosis: Diagnosis | None = None
    mode = ""
    tiny = False

    def count(self) -> int:
        """As many as the screen gives."""
        return self.size.height

    def line(self, place: int, width: int) -> Text:
        """The headline, the figures."""
        errors = sum(alert.severity == "error" for alert in self.found)
        if self.tiny:
            size = (width, self.size.height)
            drawn = tiny(self.snapshot, errors, *size, self.palette, self.mode)
            return drawn[place] if place < len(drawn) else Text()
        if place == 0:
            return headline(
                self.snapshot,
                errors,
                len(self.found) - errors,
                width,
                self.palette,
                silent_seconds=self.silent_seconds,
                mode=self.mode,
                advice=advice.count(self.diagnosis, self.palette),
            )
        if place == 1:
            return figures(self.snapshot, self.history, width, self.palette)
        return Text()


class Alerts(Lines):
    """One sentence for each thing that is wrong; takes no room while nothing is."""

    DEFAULT_CSS = "Alerts { overflow-y: hidden; }"

    found: Sequence[Alert] = ()

    async def on_click(self) -> None:
        """A click tells all of it."""
        await self.app.run_action("app.advice")

    _made: tuple[int, int, list[Text]] | None = None

    def redrawing(self) -> Iterator[None]:
        """Make the sentences once for all lines."""
        self._made = None
        yield from super().redrawing()

    def wanted(self, width: int, most: int) -> int:
        """How many lines it would take to say everything, as far as it matters."""
        return len(alert_lines(self.found, width, most, self.palette))

    def count(self) -> int:
        """As many as the screen gives."""
        return self.size.height

    def line(self, place: int, width: int) -> Text:
        """The sentence at `place`; the last line counts those left out."""
        height = self.size.height
        if self._made is None or self._made[:2] != (width, height):
            drawn = alert_lines(self.found, width, height, self.palette)
            self._made = (width, height, drawn)
        drawn = self._made[2]
        return drawn[place] if place < len(drawn) else Text()

"""The panel of totals by model."""

from __future__ import annotations

from rich.text import Text

from llamatop.app.render import models as render
from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.app.widgets.lines import Lines
from llamatop.model.cluster import ClusterSnapshot


class ModelPanel(Lines, can_focus=True):
    """One line a model."""

    def __init__(self, palette: Palette, *, id: str | None = None) -> None:
        super().__init__(palette, id=id)
        self.listed: list[render.ModelRow] = []
        self.spaced = True

    def take(self, snapshot: ClusterSnapshot) -> None:
        """Take the latest workers; what is shown is made again by `redraw`."""
        self.listed = render.by_model(snapshot.workers)

    def sticky(self) -> list[Text]:
        """A blank line where there is room, the heading and the titles in one."""
        heading = piece(" models", self.palette["key" if self.has_focus else "heading"])
        heading.append(f"  {len(self.listed)}", self.palette["faint"])
        width = self.drawn_width
        titles = render.titles(render.layout(self.listed, width), width, self.palette)
        return [Text()] * self.spaced + [heading, titles]

    def count(self) -> int:
        """One a model."""
        return len(self.listed)

    def line(self, place: int, width: int) -> Text:
        """The model at `place`."""
        parts = render.layout(self.listed, width)
        return render.line(self.listed[place], parts, width, self.palette)

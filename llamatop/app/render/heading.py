"""The line above the worker table: how much there is of what, in which order, with what filter."""

from __future__ import annotations

from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece
from llamatop.model.text import plain


def heading(
    palette: Palette,
    width: int,
    *,
    nodes: int | None,
    shown: int,
    total: int,
    sort: str,
    needle: str = "",
    marked: int = 0,
    nothing: bool = False,
    why: str = "",
    focused: bool = False,
) -> Text:
    """`shown` of `total` workers, on `nodes` lines of nodes where these stand above them.

    `why` is the reason for an empty table, `nothing` whether the filter left nothing of it.
    """
    text = piece(
        " workers" if nodes is None else " nodes", palette["key" if focused else "heading"]
    )
    if why and nodes is None:
        text.append(f"  {why}", palette["faint"])
        return text
    counted = str(total) if shown == total else f"{shown} of {total}"
    parts = [counted, f"by {sort}"]
    if nodes is not None:
        parts = [str(nodes), parts[1], f"{counted} workers"]
        while len(parts) > 1 and len(" · ".join(parts)) + 8 > width:
            parts.pop()
    text.append("  " + " · ".join(parts), palette["faint"])
    if marked:
        text.append(f" · ◆ {marked} marked", palette["marked"])
    if needle:
        text.append(" · ", palette["faint"])
        text.append(f"/{plain(needle)}", palette["match"])
    if total and nothing:
        text.append("  nothing matches; esc clears", palette["event.warning"])
    return text

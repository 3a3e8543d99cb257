"""How the screen is shared out: heights and widths from the terminal's size and what there is."""

from __future__ import annotations

from msgspec import Struct

TINY_WIDTH, TINY_HEIGHT = 24, 8
WIDE = 140
TALL = 40
# From so many lines on a blank one parts the panels.
SPACED = 20
_EVENTS = 6


class Layout(Struct, frozen=True):
    """Lines and cells for each panel; 0 hides it. The detail stands right, below, or nowhere."""

    tiny: bool = False
    totals: int = 2
    alerts: int = 0
    chart: int = 0
    gpus: int = 0
    models: int = 0
    workers: int = 0
    events: int = 0
    detail_height: int = 0
    detail_width: int = 0
    keys: int = 1


def tiny(width: int, height: int) -> bool:
    """Whether there is room for nothing but the totals."""
    return width < TINY_WIDTH or height < TINY_HEIGHT


def many_cards(gpus: int, height: int) -> bool:
    """Whether so many cards are better shown as a heat map."""
    return gpus > max(8, height // 3)


def detail_width(width: int, height: int) -> int:
    """The cells of the detail where it stands on the right, else 0."""
    return min(90, width * 19 // 50) if width >= WIDE and height >= 20 else 0


def share(
    width: int,
    height: int,
    *,
    gpus: int,
    workers: int,
    alerts: int,
    events: int,
    below: int = 0,
    models: int = 0,
    most_gpus: int | None = None,
) -> Layout:
    """Workers come first, then faults, cards, events, the detail, the chart of the whole cluster.

    `alerts` counts wrapped lines; `below` counts the lines of the filter bar and the status line.
    `gpus` are the lines of the cards, of which at most `most_gpus` get room.
    """
    if tiny(width, height):
        return Layout(tiny=True, totals=height, keys=0)
    totals = 2 if height >= 10 else 1
    keys = 1 if height >= 12 else 0
    left = height - totals - keys - below
    spaced = height >= SPACED
    want_workers = max(1, workers) + 2 + spaced
    want_gpus = gpus + 1 + spaced if gpus else 0
    # Faults take a seventh, and what nothing but the chart would have.
    spare = left - want_workers - want_gpus - 4
    alert_lines = min(alerts, max(1, height // 7, spare))
    left -= alert_lines
    least_workers = min(want_workers, max(3, left // 2))
    if most_gpus is not None:
        want_gpus = min(want_gpus, most_gpus)
    gpu_lines = min(want_gpus, left - least_workers)
    if gpu_lines < 2:
        gpu_lines = 0
    left -= gpu_lines
    model_lines = min(models + 2 + spaced, left - least_workers) if models else 0
    if model_lines < 3 + spaced:
        model_lines = 0
    left -= model_lines
    # Workers that scroll anyway leave a little to what happened.
    scrolls = want_workers > left and height >= TALL and events > 0
    worker_lines = min(want_workers, max(least_workers, left - _EVENTS) if scrolls else left)
    left -= worker_lines
    event_lines = min(left, max(4, min(events + 1 + spaced, 10)))
    if event_lines < 3:
        event_lines = 0
    left -= event_lines
    beside = detail_width(width, height)
    detail = 0
    if not beside and left >= 14:
        detail = min(left, 30)
        left -= detail
    chart = min(left, 13) if left >= 7 else 0
    left -= chart
    if event_lines:
        event_lines += left
    else:
        worker_lines += left
    return Layout(
        totals=totals,
        alerts=alert_lines,
        chart=chart,
        gpus=gpu_lines,
        models=model_lines,
        workers=worker_lines,
        events=event_lines,
        detail_height=detail,
        detail_width=beside,
        keys=keys,
    )

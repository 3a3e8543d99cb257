"""How the screen is shared out: heights and widths from the terminal's size and what there is."""

from __future__ import annotations

from dataclasses import dataclass

TINY_WIDTH, TINY_HEIGHT = 24, 8
WIDE = 140


@dataclass(frozen=True, slots=True)
class Layout:
    """Lines and cells for each panel; 0 hides it. The detail stands right, below, or nowhere."""

    tiny: bool = False
    totals: int = 2
    alerts: int = 0
    chart: int = 0
    gpus: int = 0
    workers: int = 0
    events: int = 0
    detail_height: int = 0
    detail_width: int = 0
    keys: int = 1


def share(
    width: int, height: int, *, gpus: int, workers: int, alerts: int, events: int, below: int = 0
) -> Layout:
    """Workers come first, then faults, cards, events, the detail, the chart of the whole cluster.

    `alerts` counts wrapped lines; `below` counts the lines of the filter bar and the status line.
    """
    if width < TINY_WIDTH or height < TINY_HEIGHT:
        return Layout(tiny=True, totals=height, keys=0)
    totals = 2 if height >= 10 else 1
    keys = 1 if height >= 12 else 0
    left = height - totals - keys - below
    spaced = height >= 20
    want_workers = max(1, workers) + 2 + spaced
    want_gpus = gpus + 1 + spaced if gpus else 0
    # Faults take a seventh, and what nothing but the chart would have.
    spare = left - want_workers - want_gpus - 4
    alert_lines = min(alerts, max(1, height // 7, spare))
    left -= alert_lines
    least_workers = min(want_workers, max(3, left // 2))
    gpu_lines = min(want_gpus, left - least_workers)
    if gpu_lines < 2:
        gpu_lines = 0
    left -= gpu_lines
    worker_lines = min(want_workers, left)
    left -= worker_lines
    event_lines = min(left, max(4, min(events + 1 + spaced, 10)))
    if event_lines < 3:
        event_lines = 0
    left -= event_lines
    detail_width = min(90, width * 19 // 50) if width >= WIDE and height >= 20 else 0
    detail = 0
    if not detail_width and left >= 14:
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
        workers=worker_lines,
        events=event_lines,
        detail_height=detail,
        detail_width=detail_width,
        keys=keys,
    )

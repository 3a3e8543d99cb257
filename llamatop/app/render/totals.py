"""The top of the screen: how busy the cluster is and whether anything is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render.bars import BUSY, IDLE, sparkline
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import BUSY as SERVING
from llamatop.app.render.state import FINE, worker_states
from llamatop.app.render.words import Pieces, piece
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.figures import UNKNOWN, count, duration, number
from llamatop.model.text import plain


def headline(
    snapshot: ClusterSnapshot,
    errors: int,
    warnings: int,
    width: int,
    palette: Palette,
    *,
    silent_seconds: float | None = None,
    mode: str = "",
    advice: Text | None = None,
) -> Text:
    """One line: the cluster's name, its health in words, nodes and workers up, and the clock.

    `silent_seconds` says how long no snapshot has come, where that is too long; `mode` why nothing
    can be changed, where that is so; `advice` how much there is to mend.
    """
    left = piece(" llamatop ", palette["brand"])
    left.append(f" {plain(snapshot.cluster.name)}", palette["text"])
    if mode:
        left.append(f"  {mode}", palette["dim"])
    health = _health(snapshot, errors, warnings, palette)
    fresh = {node.name for node in snapshot.nodes if node.reachable and not node.stale}
    up = len(fresh)
    nodes = _share(up, len(snapshot.nodes), "node", snapshot.tick, palette)
    serving = sum(
        worker.node in fresh and state.rank in (FINE, SERVING)
        for worker, state in zip(snapshot.workers, worker_states(snapshot.workers), strict=True)
    )
    workers = _share(serving, len(snapshot.workers), "worker", snapshot.tick, palette)
    if silent_seconds is None:
        clock = piece(snapshot.taken_at.astimezone().strftime("%H:%M:%S"), palette["dim"])
    else:
        clock = piece(f"nothing new for {duration(silent_seconds)}", palette["node.stale"])
    out = _out(snapshot, palette)
    mend = advice if advice is not None else Text()
    # What is wrong stays longest, the name and the clock leave first.
    for parts in (
        [left, health, mend, out, nodes, workers, clock],
        [left, health, mend, out, nodes, workers],
        [left, health, mend, out, nodes],
        [left, health, mend, out],
        [left, health, mend],
        [left, health],
    ):
        for gap in ("   ", "  "):
            right = Text(gap).join(part for part in parts[1:] if part)
            space = width - cell_len(left.plain) - cell_len(right.plain) - 1
            if space >= 2:
                return left + Text(" " * space) + right
    return health + Text(" " * max(0, width - cell_len(health.plain) - 1))


def _share(up: int, total: int, noun: str, tick: int, palette: Palette) -> Text:
    role = "text" if up == total or tick == 0 else "health.bad"
    known = str(up) if up or tick else UNKNOWN
    text = piece(f"{known}/{total if total or tick else UNKNOWN}", palette[role])
    text.append(f" {noun}{'' if total == 1 else 's'}", palette["dim"])
    return text


def _health(snapshot: ClusterSnapshot, errors: int, warnings: int, palette: Palette) -> Text:
    connecting = sum(node.age_seconds is None and not node.fault for node in snapshot.nodes)
    if snapshot.tick == 0 and connecting in (0, len(snapshot.nodes)):
        return piece("◌ looking", palette["dim"])
    if connecting and not errors:
        text = piece(f"◌ {connecting} connecting", palette["dim"])
    elif errors:
        text = piece(f"✗ {errors} fault{'' if errors == 1 else 's'}", palette["health.bad"])
    elif not snapshot.healthy:
        loading = sum(worker.sample.health == "loading" for worker in snapshot.workers)
        words = f"◐ {loading} loading" if loading else "✗ unhealthy"
        text = piece(words, palette["event.warning" if loading else "health.bad"])
    else:
        text = piece("✓ healthy", palette["health.good"])
    if warnings > connecting:
        text.append(f"  ▲ {warnings - connecting}", palette["event.warning"])
    return text


def _out(snapshot: ClusterSnapshot, palette: Palette) -> Text:
    """How many members serve nothing new: nothing is wrong, but it should not be forgotten."""
    words = []
    out = [member for member in snapshot.members if member.state != "in"]
    for state in ("draining", "down"):
        addresses = {member.address for member in out if member.state == state}
        if addresses:
            words.append(f"{len(addresses)} {state}")
    return piece(", ".join(words), palette["event.warning"])


def figures(
    snapshot: ClusterSnapshot,
    history: Sequence[float | None],
    width: int,
    palette: Palette,
) -> Text:
    """One line: tokens out and in, slots, queue; a sparkline of the tokens out where it fits."""
    totals = snapshot.totals
    generation = piece(number(totals.generation_tokens_per_second), palette["total.generation"])
    generation.append(" gen tok/s" if width >= 64 else " gen", palette["dim"])
    prompt = piece(number(totals.prompt_tokens_per_second), palette["total.prompt"])
    prompt.append(" prompt tok/s" if width >= 100 else " prompt", palette["dim"])
    busy = piece(f"{count(totals.slots_busy)}/{count(totals.slots_total)}", palette["text"])
    busy.append(" slots", palette["dim"])
    waiting = totals.requests_deferred
    queue = piece(count(waiting), palette["queue.waiting" if waiting else "text"])
    queue.append(" queued", palette["dim"])
    parts = [generation, prompt, busy, queue]
    gap = 4 if width >= 100 else 3 if width >= 60 else 2
    while len(parts) > 1 and _length(parts, gap) + 1 > width:
        parts.pop(1 if len(parts) > 2 else -1)
    room = width - _length(parts, gap) - 2
    marks = _slot_marks(totals.slots_busy, totals.slots_total, palette)
    if marks is not None and busy in parts and len(marks) + 1 <= min(room // 2, 40):
        place = parts.index(busy)
        parts[place] = marks + Text(" ") + busy
        room -= len(marks) + 1
    if room >= 8:
        spark = sparkline(history, min(room - 2, 60))
        parts[0] = parts[0] + Text(" ") + piece(spark, palette["gpu.history"])
    text = Pieces(" ")
    text.append_text(Text(" " * gap).join(parts))
    return text


def _length(parts: Sequence[Text], gap: int) -> int:
    return sum(cell_len(part.plain) for part in parts) + gap * (len(parts) - 1)


def _slot_marks(busy: int | None, total: int | None, palette: Palette) -> Text | None:
    if busy is None or not total:
        return None
    text = piece(BUSY * min(busy, total), palette["slot.busy"])
    text.append(IDLE * max(0, total - busy), palette["slot.idle"])
    return text


def tiny(
    snapshot: ClusterSnapshot,
    errors: int,
    width: int,
    height: int,
    palette: Palette,
    mode: str = "",
) -> list[Text]:
    """What a terminal too small for the dashboard shows: one fact, then what size is needed.

    Between them stands the mode, as what is replayed is not so now.
    """
    totals = snapshot.totals
    if snapshot.tick == 0:
        first = piece("looking", palette["dim"])
    elif errors:
        words = f"✗ {errors} fault" + ("" if errors == 1 else "s")
        first = piece(words, palette["health.bad"])
    else:
        mark = "✓" if snapshot.healthy else "✗"
        words = f"{mark} {count(totals.slots_busy)}/{count(totals.slots_total)}"
        first = piece(words, palette["health.good" if snapshot.healthy else "health.bad"])
        figure = f" {number(totals.generation_tokens_per_second)}"
        if cell_len(words + figure) <= width:
            first.append(figure, palette["total.generation"])
    mend = "enlarge the terminal to 24x8" if width >= 28 else "need 24x8"
    said = [piece(mode, palette["brand"])] if mode else []
    return [first, *said, piece(mend, palette["dim"])][:height]

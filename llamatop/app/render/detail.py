"""One worker or unit in full: facts, slots, and its last minutes as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from llamatop.app.render import fit as fits
from llamatop.app.render import inference
from llamatop.app.render.bars import BUSY, IDLE, PROMPT, ceiling, chart, shade
from llamatop.app.render.palette import Palette
from llamatop.app.render.state import MEMBERSHIP
from llamatop.app.render.words import Pieces, fit, piece, wrap
from llamatop.app.rows import Row
from llamatop.model.cluster import WorkerView
from llamatop.model.figures import UNKNOWN, count, duration, number
from llamatop.model.observed import WorkerSample
from llamatop.model.text import plain

_LABEL = 11
# Between two labels of the time axis, and the whole seconds that they may be apart.
_LABEL_CELLS = 12
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


def title(row: Row, width: int, palette: Palette) -> Text:
    """The name, the state, the membership."""
    text = Pieces(" ")
    name = plain(row.name)
    text.append(fit(name, min(cell_len(name), max(8, width - 28))), palette["brand"])
    if row.stale_seconds is not None:
        text.append(f"   ? {duration(row.stale_seconds)} old", palette["node.stale"])
        return text
    text.append(f"   {row.state.mark} {row.state.word}", palette[row.state.role])
    if row.worker is not None and row.worker.membership is not None:
        word, role = MEMBERSHIP[row.worker.membership]
        text.append(f"   {word}", palette[role])
    return text


def facts(row: Row, width: int, palette: Palette, now: datetime) -> list[Text]:
    """Label and value, one a line; what is not known is not listed, save what should be."""
    unit, worker = row.unit, row.worker
    state = " ".join(
        filter(None, [unit.active_state, f"({unit.sub_state})" if unit.sub_state else None])
    )
    up = ""
    if unit.since is not None:
        up = f", {duration(now.timestamp() - unit.since)}"
    listed: list[tuple[str, str, str]] = []
    fault = worker.fault if worker else None
    if fault:
        listed.append(("fault", fault, "worker.fault"))
    if row.left:
        listed.append(("drained", row.left.removeprefix("was "), "member.down"))
    if worker is not None:
        listed += [("hint", hint, "event.warning") for hint in worker.hints]
        listed += inference.first(worker)
    listed.append(("unit", unit.name, "text"))
    listed.append(("", f"{state or UNKNOWN}{up}, {_restarts(unit.restarts)}", "dim"))
    if unit.result not in (None, "success"):
        listed.append(("result", unit.result or "", "worker.fault"))
    if worker is not None:
        listed += _worker_facts(worker, fits.facts(worker, row.file, row.around))
    lines: list[Text] = []
    for label, value, role in listed:
        for place, part in enumerate(wrap(value, max(10, width - _LABEL - 2))):
            text = Pieces(" ")
            text.append(fit(label if place == 0 else "", _LABEL), palette["faint"])
            text.append(part, palette[role])
            lines.append(text)
    return lines


def _restarts(restarts: int | None) -> str:
    if restarts is None:
        return f"{UNKNOWN} restarts"
    return "1 restart" if restarts == 1 else f"{restarts} restarts"


def _worker_facts(
    worker: WorkerView, fitting: list[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    sample = worker.sample
    cards = UNKNOWN
    if worker.topology == "cpu":
        cards = "cpu"
    elif worker.gpus:
        known = f", known from {worker.gpus_source}" if worker.gpus_source else ""
        cards = f"gpu {' + '.join(map(str, worker.gpus))}, {worker.topology or UNKNOWN}{known}"
    listed = [] if sample.engine == "ollama" else [("model", sample.model or UNKNOWN, "text")]
    listed += inference.adapters(worker)
    split = worker.topology == "layer-split"
    listed.append(("placement", cards, "gpu.split" if split else "text"))
    listed += fitting
    if sample.engine == "vllm":
        listed.append(("context", f"{count(sample.context_tokens)} tokens a request", "text"))
    else:
        used = f"{count(worker.context_used_tokens)} of {count(sample.context_tokens)} tokens"
        listed.append(("context", used, "text"))
    if sample.engine == "ollama":
        listed.append(("queue", f"{UNKNOWN} waiting; Ollama does not tell", "dim"))
    elif sample.engine != "vllm":
        listed.append(("queue", f"{count(sample.requests_deferred)} waiting", "text"))
    listed.append(("endpoint", sample.url or UNKNOWN, "dim"))
    build = " ".join(filter(None, [sample.engine, sample.build]))
    if build:
        listed.append(("engine", build, "dim"))
    for upstream, address in worker.members:
        listed.append(("member", f"{address} of {upstream}", "dim"))
    return listed + inference.rest(worker)


def slot_lines(sample: WorkerSample, palette: Palette) -> list[Text]:
    """One line a slot: what it does, how far it is, and of which model where there are several."""
    several = len(sample.loaded or ()) > 1
    models = {number: model.name for model in sample.loaded or () for number in model.slots or ()}
    lines = inference.engine_lines(sample.engines, _LABEL, palette)
    for slot in sample.slots or ():
        text = Pieces(" ")
        text.append(fit(f"slot {slot.id}", _LABEL), palette["faint"])
        if not slot.busy:
            text.append(f"{IDLE} idle", palette["slot.idle"])
        elif not slot.generated_tokens:
            text.append(f"{PROMPT} prompt  ", palette["slot.prompt"])
            text.append(f"{count(slot.prompt_tokens)} tokens", palette["dim"])
        else:
            text.append(f"{BUSY} gen  ", palette["slot.busy"])
            text.append(f"{count(slot.generated_tokens)}", palette["text"])
            text.append(f" after {count(slot.prompt_tokens)} prompt", palette["dim"])
            if slot.remaining_tokens is not None and slot.remaining_tokens >= 0:
                text.append(f", {count(slot.remaining_tokens)} left", palette["dim"])
        if several:
            text.append(f"  {plain(models.get(slot.id, UNKNOWN))}", palette["faint"])
        lines.append(text)
    return lines


def history(
    generation: Sequence[float | None],
    prompt: Sequence[float | None],
    width: int,
    height: int,
    interval_seconds: float,
    palette: Palette,
) -> list[Text]:
    """Two area charts in `height` lines, tokens out above tokens in, over one axis of time."""
    upper = max(1, (height - 3) * 2 // 3)
    lower = max(1, height - 3 - upper)
    return [
        *area("gen tok/s", generation, width, upper, "rate.generation", palette),
        *area("prompt tok/s", prompt, width, lower, "rate.prompt", palette),
        axis(width, interval_seconds, palette),
    ]


def axis(width: int, interval_seconds: float, palette: Palette) -> Text:
    """How long ago each place of a chart was: every label ends below the moment that it names."""
    cells = " " * (width - 5) + "now"
    for step in _STEPS:
        if step / interval_seconds >= _LABEL_CELLS:
            break
    ago = step
    while (end := width - 2 - round(ago / interval_seconds)) > _LABEL_CELLS // 2:
        minutes, seconds = divmod(ago, 60)
        label = f"-{minutes}m{seconds:02}s" if seconds and minutes else f"-{minutes}m"
        label = label if minutes else f"-{seconds}s"
        cells = cells[: end - len(label)] + label + cells[end:]
        ago += step
    return piece(f" {cells}"[:width], palette["faint"])


def area(
    name: str, values: Sequence[float | None], width: int, rows: int, role: str, palette: Palette
) -> list[Text]:
    """A heading with the newest value and the scale, then `rows` lines of chart."""
    shown = list(values[-max(1, width - 2) :])
    top = ceiling(shown)
    heading: Text = Pieces()
    heading.append(f" {name} ", palette["faint"])
    heading.append(number(values[-1] if values else None), palette[role])
    scale = f"{number(top)} ┐"
    heading.append(" " * max(1, width - len(heading) - len(scale) - 1))
    heading.append(scale, palette["faint"])
    lines = [heading]
    for place, cells in enumerate(chart(shown, width - 2, rows, top)):
        lines.append(piece(f" {cells}", shade(palette, role, 1 - place / max(1, rows))))
    return lines

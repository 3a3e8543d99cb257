"""A plan as lines: exact commands, exact diff, warnings, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from llamatop.app.render.palette import Palette
from llamatop.app.render.words import piece, wrap
from llamatop.model.figures import duration
from llamatop.model.plan import Plan, Step, StepResult
from llamatop.model.text import plain

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
# A longer plan begins with its steps alone: its commands and diffs fill screens.
_OUTLINED_FROM = 7
_MARKS: dict[str, tuple[str, str]] = {
    "done": ("✓", "plan.done"),
    "failed": ("✗", "plan.failed"),
    "undone": ("↺", "plan.undone"),
    "skipped": ("–", "dim"),
}


def lines(
    plan: Plan,
    results: Mapping[int, StepResult],
    width: int,
    palette: Palette,
    *,
    frame: int = 0,
    begun: bool = False,
) -> list[Text]:
    """Warnings, what it cuts, then the steps; once begun each step says how it stands."""
    made: list[Text] = []
    if plan.about:
        made += _wrapped("", plan.about, width, palette, "dim")
    if plan.reason:
        made += _wrapped("why: ", plan.reason, width, palette, "dim")
    if not begun:
        for warning in (*plan.warnings, *plan.stays):
            made += _wrapped("▲ ", warning, width, palette, "plan.warning")
        made += _cuts(plan, width, palette)
        for reason in plan.nothing:
            made += _wrapped("= ", reason, width, palette, "text")
        if made and plan.steps:
            made.append(Text())
    if not begun and len(plan.steps) >= _OUTLINED_FROM:
        for number, step in enumerate(plan.steps, 1):
            made.append(_step(number, step, None, palette, frame, begun))
        made += [Text(), piece(" the same with every command and diff", palette["dim"]), Text()]
    for number, step in enumerate(plan.steps, 1):
        result = results.get(number)
        made.append(_step(number, step, result, palette, frame, begun))
        if result is not None:
            role = "plan.failed" if result.state == "failed" else "plan.undone"
            if result.error:
                made += _wrapped("     ", result.error, width, palette, role)
        if not begun or (result is not None and result.state == "failed"):
            made += _body(step, width, palette)
    return made


def _cuts(plan: Plan, width: int, palette: Palette) -> list[Text]:
    if plan.cuts_requests == 0 or not plan.steps:
        return []
    if plan.cuts_requests is None:
        return _wrapped(
            "▲ ", "how many requests it cuts is not known", width, palette, "plan.warning"
        )
    noun = "request" if plan.cuts_requests == 1 else "requests"
    words = f"cuts {plan.cuts_requests} {noun} in flight"
    return _wrapped("▲ ", words, width, palette, "plan.warning")


def _step(
    number: int,
    step: Step,
    result: StepResult | None,
    palette: Palette,
    frame: int,
    begun: bool,
) -> Text:
    text = Text(" ", no_wrap=True)
    if result is None:
        text.append(f"{'·' if begun else number} ", palette["dim"])
        text.append(plain(step.title), palette["dim" if begun else "text"])
    elif result.state == "running":
        text.append(f"{SPINNER[frame % len(SPINNER)]} ", palette["plan.running"])
        text.append(plain(step.title), palette["text"])
    else:
        mark, role = _MARKS[result.state]
        text.append(f"{mark} ", palette[role])
        text.append(plain(step.title), palette["text"])
    text.append(f"  {plain(step.node)}", palette["faint"])
    if result is not None:
        text.append(f"  {duration(result.seconds)}", palette["faint"])
        if result.progress:
            text.append(f"  {plain(result.progress)}", palette["dim"])
        if result.state == "undone":
            text.append("  undone", palette["plan.undone"])
    return text


def _body(step: Step, width: int, palette: Palette) -> list[Text]:
    made = []
    for command in step.commands:
        made += _wrapped("   $ ", str(command), width, palette, "plan.command", "     ")
    for diff_line in step.diff.splitlines():
        made += _diff(plain(diff_line), width, palette)
    return made


def _diff(line: str, width: int, palette: Palette) -> list[Text]:
    """A line as it stands; one that is too long goes on below, so that its end is seen too."""
    words = line[1:].lstrip(" ")
    before = line[: len(line) - len(words)]
    parts = wrap(words, max(8, width - len(before) - 6))
    rest = " " * (len(before) + 2)
    role = palette[_diff_role(line)]
    return [piece(f"   {rest if n else before}{part}", role) for n, part in enumerate(parts)]


def _diff_role(diff_line: str) -> str:
    if diff_line.startswith(("+++", "---")):
        return "dim"
    return {"+": "plan.add", "-": "plan.remove", "@": "plan.place"}.get(diff_line[:1], "dim")


def _wrapped(
    lead: str, words: str, width: int, palette: Palette, role: str, rest: str | None = None
) -> list[Text]:
    made = []
    for place, part in enumerate(wrap(words, max(8, width - len(lead) - 2))):
        text = Text(" ", no_wrap=True)
        before = lead if place == 0 else rest or " " * len(lead)
        text.append(before, palette["faint" if "$" in before else role])
        text.append(part, palette[role])
        made.append(text)
    return made


def status(
    name: str,
    stage: str,
    plan: Plan | None,
    results: Mapping[int, StepResult],
    palette: Palette,
    frame: int,
    seconds_left: float | None = None,
) -> Text:
    """The one line while the dialog is hidden: what runs, which step, how to see it."""
    text = Text(" ", no_wrap=True)
    marks = {
        "done": ("✓", "plan.done"),
        "failed": ("✗", "plan.failed"),
        "asking": ("?", "plan.warning"),
        "cancelled": ("↺", "plan.undone"),
    }
    mark, role = marks.get(stage, (SPINNER[frame % len(SPINNER)], "plan.running"))
    text.append(f"{mark} {plain(name)}", palette[role])
    text.append("  p", palette["key"])
    text.append(" answers it" if stage == "asking" else " shows it", palette["faint"])
    if plan is not None and stage in ("running", "cancelling", "asking"):
        number = max(results, default=1)
        text.append(f"  {number}/{len(plan.steps)}  ", palette["dim"])
        if seconds_left is not None:
            text.append(f"{duration(seconds_left)} left  ", palette["dim"])
        result = results.get(number)
        text.append(plain(plan.steps[number - 1].title), palette["text"])
        if result is not None and result.progress:
            text.append(f"  {plain(result.progress)}", palette["dim"])
    else:
        text.append(f"  {stage}", palette[role])
    return text

"""Colours by role: what a thing means decides how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from msgspec import Struct, field
from rich.color import Color, blend_rgb
from rich.style import Style

# Every role with its style where a theme leaves it out: sixteen terminal colours and attributes.
ROLES: dict[str, str] = {
    "text": "default",
    "dim": "bright_black",
    "faint": "bright_black",
    "heading": "bold",
    "brand": "bold yellow",
    "cursor": "bold",
    "marked": "bold yellow",
    "match": "underline",
    "key": "bold yellow",
    "total.generation": "bold yellow",
    "total.prompt": "bold cyan",
    "gpu.low": "yellow",
    "gpu.busy": "yellow",
    "gpu.track": "bright_black",
    "gpu.history": "yellow",
    "gpu.memory": "default",
    "gpu.hot": "bold red",
    "gpu.split": "bold magenta",
    "gpu.fault": "bold red",
    "link.direct": "bold green",
    "link.switch": "green",
    "link.host": "default",
    "link.socket": "yellow",
    "slot.busy": "yellow",
    "slot.prompt": "cyan",
    "slot.idle": "bright_black",
    "rate.generation": "yellow",
    "rate.prompt": "cyan",
    "queue.waiting": "bold red",
    "member.in": "green",
    "member.down": "yellow",
    "member.draining": "bold yellow",
    "member.absent": "bright_black",
    "member.mixed": "bold magenta",
    "worker.ok": "green",
    "worker.busy": "yellow",
    "worker.loading": "cyan",
    "worker.stopped": "bright_black",
    "worker.asleep": "blue",
    "worker.fault": "bold red",
    "node.name": "bright_black",
    "node.stale": "yellow",
    "health.good": "green",
    "health.bad": "bold red",
    "event.info": "bright_black",
    "event.warning": "yellow",
    "event.error": "bold red",
    "plan.command": "default",
    "plan.add": "green",
    "plan.remove": "red",
    "plan.place": "cyan",
    "plan.warning": "bold yellow",
    "plan.running": "bold yellow",
    "plan.done": "green",
    "plan.failed": "bold red",
    "plan.undone": "yellow",
}


class Palette(Struct, frozen=True, eq=False, dict=True):
    """A style for every role; `plain` is true where only words, marks and attributes may speak."""

    name: str = "plain"
    styles: Mapping[str, Style] = field(default_factory=dict)
    plain: bool = False

    def __getitem__(self, role: str) -> Style:
        return self.styles[role]

    @cached_property
    def faded(self) -> Palette:
        """The same with everything but the track faint, bars and charts most; for what is old."""
        kept = ("gpu.track", "node.stale", "cursor")
        faint = self["faint"]
        styles = {role: style if role in kept else faint for role, style in self.styles.items()}
        low, high = self["gpu.track"].color, faint.color
        if low is not None and high is not None and low.triplet and high.triplet:
            between = Style(color=Color.from_triplet(blend_rgb(low.triplet, high.triplet, 0.5)))
            styles |= dict.fromkeys(("gpu.low", "gpu.busy", "gpu.history"), between)
        return Palette(f"{self.name} faded", styles, self.plain)


def fallback(plain: bool = False) -> Palette:
    """The palette without a theme: terminal colours, or attributes alone when `plain`."""
    styles = {role: Style.parse(text) for role, text in ROLES.items()}
    if plain:
        styles = {role: attributes(style) for role, style in styles.items()}
        styles["cursor"] = Style(reverse=True)
        styles["faint"] = styles["dim"] = styles["slot.idle"] = Style(dim=True)
    return Palette("plain" if plain else "terminal", styles, plain)


def attributes(style: Style) -> Style:
    """`style` without its colours; bold, underline and the like stay."""
    return Style(
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        reverse=style.reverse,
    )

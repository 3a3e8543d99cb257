"""Every key: one table for the bindings, the bottom line, the help and the command palette."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from textual.binding import Binding

Group = Literal["change", "look", "move", "general"]


class Key(Struct, frozen=True):
    """One key; `changes` marks what alters the cluster and is unbound when read-only.

    `practice` marks what is for clusters to practise on alone. `action` is Textual's; empty for
    keys that a panel binds itself and that stand here for the help alone. `brief` is the word on
    the bottom line, empty to leave it out there.
    """

    key: str
    shown: str
    action: str
    text: str
    group: Group
    brief: str = ""
    changes: bool = False
    practice: bool = False


KEYS: tuple[Key, ...] = (
    Key("s", "s", "app.change('start')", "start the unit", "change", "start", True),
    Key(
        "x",
        "x",
        "app.change('stop')",
        "stop it; a serving member drains first",
        "change",
        "stop",
        True,
    ),
    Key(
        "r",
        "r",
        "app.change('restart')",
        "restart it; drains first, undrains when healthy",
        "change",
        "restart",
        True,
    ),
    Key(
        "d",
        "d",
        "app.change('drain')",
        "take it out of the upstream, let requests finish",
        "change",
        "drain",
        True,
    ),
    Key(
        "u",
        "u",
        "app.change('undrain')",
        "put it back into the upstream",
        "change",
        "undrain",
        True,
    ),
    Key(
        "f",
        "f",
        "app.take_out",
        "take out what is dead, wherever the cursor is",
        "change",
        "",
        True,
    ),
    Key(
        "space",
        "space",
        "screen.mark",
        "mark it, for one plan over several",
        "change",
        "mark",
        True,
    ),
    Key("p", "p", "app.show_plan", "the plan that runs or ran last", "change", "", True),
    Key("y", "y", "app.copy_plan", "copy the plan as text", "change", "", True),
    Key("enter", "enter", "screen.detail", "the selected worker or node in full", "look", "detail"),
    Key("l", "l", "app.log", "its log, full screen", "look", "log"),
    Key(
        "a",
        "a",
        "app.advice",
        "advice: all that is wrong or fragile, and the mend",
        "look",
        "advice",
    ),
    Key(
        "exclamation_mark",
        "!",
        "app.shell",
        "a shell on its node; exit comes back here",
        "look",
        "shell",
    ),
    Key(
        "slash",
        "/",
        "screen.filter",
        "filter by words, state:, node:, model:, engine: (below)",
        "look",
        "filter",
    ),
    Key(
        "o",
        "o",
        "screen.sort",
        "next order: node, worst first, generation, slots, queue",
        "look",
        "sort",
    ),
    Key("asterisk", "*", "screen.fold_all", "fold all nodes, or unfold them", "look", "fold"),
    Key("t", "t", "app.topology", "topology: cards, links, what workers yield", "look", "topology"),
    Key("m", "m", "screen.models", "totals by model", "look", "models"),
    Key(
        "R,shift+r",
        "R",
        "app.roll",
        "roll: restart the marked workers, else all, one after another",
        "change",
        "roll",
        True,
    ),
    Key(
        "S,shift+s",
        "S",
        "app.reshape",
        "one process per GPU for a split; for marked ones one over all",
        "change",
        "",
        True,
    ),
    Key(
        "z",
        "z",
        "app.change('undo')",
        "undo: take back your last membership change",
        "change",
        "",
        True,
    ),
    Key(
        "v",
        "v",
        "app.change('recover')",
        "recover: put back what plans that were cut off left drained",
        "change",
        "",
        True,
    ),
    Key(
        "escape",
        "esc",
        "screen.back",
        "back; on the main screen clear the filter, then the marks",
        "look",
        "back",
    ),
    Key("", "↑ ↓ j k", "", "up and down", "move"),
    Key("", "g G", "", "first and last", "move"),
    Key("", "pgup pgdn", "", "by a screenful", "move"),
    Key("", "← → - +", "", "fold and unfold the node", "move"),
    Key("", "tab", "", "from panel to panel", "move"),
    Key("", "n N", "", "next node and the one before, in the topology", "move"),
    Key("", "mouse", "", "click selects, click again opens, the wheel scrolls", "move"),
    Key("question_mark", "?", "app.help", "every key", "general", "help"),
    Key("ctrl+p", "^p", "app.command_palette", "every action and theme by name", "general"),
    Key(
        "F,shift+f",
        "F",
        "app.switches",
        "bring a fault on in the demo, or take it back",
        "general",
        practice=True,
    ),
    Key("q", "q", "app.leave", "quit; asks while a plan runs", "general", "quit"),
)


def keys(read_only: bool, practice: bool = False) -> list[Key]:
    """The keys that do something here; `practice` where faults can be brought on."""
    return [
        key for key in KEYS if not (read_only and key.changes) and (practice or not key.practice)
    ]


def bindings(read_only: bool) -> list[Binding]:
    """The bindings of a screen that shows the cluster."""
    return [
        Binding(key.key, key.action, key.text, show=False)
        for key in keys(read_only)
        if key.action and key.key != "ctrl+p"
    ]

"""The theme that was chosen last, kept for the next time."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from llamatop import files

_LONGEST = 200


def path() -> Path:
    """The file that holds the name of the theme and nothing else."""
    return platformdirs.user_state_path("llamatop") / "theme"


def theme() -> str | None:
    """The name that was remembered, None where there is none; never raises.

    What cannot be read as a name is taken for a theme that does not exist, which is then told.
    """
    try:
        with path().open("rb") as file:
            text = file.read(_LONGEST + 1).decode("utf-8", "replace")
    except OSError:
        return None
    words = text.split()
    return " ".join(words)[:_LONGEST] if words else None


def remember(name: str) -> None:
    """Keep the name; raises OSError where that cannot be."""
    target = path()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(target, f"{name}\n")

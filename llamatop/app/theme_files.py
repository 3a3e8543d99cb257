"""Where theme files lie: the person's own, and those that are shipped."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from llamatop.resources import folder


def own_folder() -> Path:
    """Where the person's themes lie, whether it is there or not; they go before those shipped."""
    return platformdirs.user_config_path("llamatop") / "themes"


def paths() -> dict[str, Path]:
    """Each theme's file by its name; same as `ls` of *.toml there and in `themes/`."""
    found: dict[str, Path] = {}
    for place in (own_folder(), folder("themes")):
        try:
            for path in sorted(place.glob("*.toml")):
                found.setdefault(path.stem, path)
        except OSError:
            continue
    return found

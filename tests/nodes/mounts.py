"""Mounts below a directory: found and undone, so that removing it removes nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path


def below(directory: Path) -> list[str]:
    """Mount points in `directory`, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = (line.split()[4].replace("\\040", " ") for line in lines)
    return sorted((place for place in places if place.startswith(f"{directory}/")), reverse=True)


def undo(directory: Path) -> None:
    """Unmount all that is mounted in `directory`, at once even where it is in use."""
    for place in below(directory):
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)

"""The workers last seen, kept for shell completion: names alone, one small file a cluster file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llamatop import files

if TYPE_CHECKING:
    from llamatop.model.cluster import ClusterSnapshot

_MOST_FILES = 50
# What a shell can be given as one word; other names are typed by hand.
_NAME = re.compile(r"[\w.:@%+,=/\\-]{1,300}")


def folder() -> Path:
    """Where they are kept; same as ~/.cache/llamatop."""
    from platformdirs import user_cache_path

    return user_cache_path("llamatop")


def recall(file: Path | None) -> dict[str, list[str]]:
    """The names of the workers by node, as last seen with this cluster file (None: without one).

    Reads one small file and contacts nobody; empty where nothing is known.
    """
    try:
        nodes = json.loads(_place(file).read_text("utf-8"))["nodes"]
        return {
            str(node): [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]
            for node, names in nodes.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return {}


def remember(snapshot: ClusterSnapshot) -> None:
    """Keep the names of this snapshot's workers; silent where they cannot be kept.

    A node that was not read, or not looked at this time, keeps what was known of it.
    """
    file = snapshot.cluster.path
    before = recall(file)
    seen = dict(before)
    for node in snapshot.nodes:
        if node.reachable:
            seen[node.name] = [
                worker.name
                for worker in snapshot.workers
                if worker.node == node.name and _NAME.fullmatch(worker.name)
            ]
    if seen != before:
        with contextlib.suppress(OSError, RuntimeError):
            _write(file, seen)


def _write(file: Path | None, nodes: dict[str, list[str]]) -> None:
    place = _place(file)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps({"file": _whole(file), "nodes": nodes})
    files.replace(place, text)
    _forget(sorted(place.parent.glob("workers-*.json"), key=lambda one: one.stat().st_mtime))


def _forget(kept: Sequence[Path]) -> None:
    """Drop what belongs to cluster files that are gone, and the oldest where there are many."""
    for number, one in enumerate(kept):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            file = json.loads(one.read_text("utf-8"))["file"]
            if len(kept) - number > _MOST_FILES or (file is not None and not Path(file).exists()):
                one.unlink()


def _place(file: Path | None) -> Path:
    digest = hashlib.sha256(os.fsencode(_whole(file) or "")).hexdigest()[:16]
    return folder() / f"workers-{digest}.json"


def _whole(file: Path | None) -> str | None:
    return None if file is None else str(file.resolve())

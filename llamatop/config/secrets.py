"""API keys from the environment of llamatop; they are never in a file of its own, nor shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llamatop.errors import Problem
from llamatop.model.declared import Cluster


def secrets(cluster: Cluster, environ: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """The key of each worker that names a variable which is set, by (node, unit)."""
    return {
        where: key
        for where, variable in _variables(cluster)
        if (key := environ.get(variable)) and _usable(key)
    }


def missing_secrets(cluster: Cluster, environ: Mapping[str, str]) -> dict[tuple[str, str], Problem]:
    """A warning for each worker whose variable is unset, empty or cannot be sent."""
    missing: dict[tuple[str, str], Problem] = {}
    for where, variable in _variables(cluster):
        key = environ.get(variable)
        if not key:
            text = f"the variable {variable} is not set: export it before starting llamatop"
        elif not _usable(key):
            text = f"the variable {variable} holds characters that no HTTP header can carry"
        else:
            continue
        file = str(cluster.path) if cluster.path else "command line"
        missing[where] = Problem(file, None, f"{where[0]}/{where[1]} api_key_env", text)
    return missing


def _variables(cluster: Cluster) -> Iterator[tuple[tuple[str, str], str]]:
    for node in cluster.nodes:
        for worker in node.workers:
            if worker.api_key_env is not None:
                yield (node.name, worker.unit), worker.api_key_env


def _usable(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip()

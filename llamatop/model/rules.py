"""The ids of every finding there can be, by which the cluster file silences them."""

from __future__ import annotations

IDS: tuple[str, ...] = (
    "unit-no-restart",
    "unit-restarts",
    "unit-not-enabled",
    "unit-changed",
    "process-outdated",
    "unit-before-persistenced",
    "unit-runs-as-root",
    "tunnel-down",
    "tunnel-no-keepalive",
    "member-wrong-worker",
    "host-key",
    "sudo-missing",
)

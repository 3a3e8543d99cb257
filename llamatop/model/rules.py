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
    "nginx-not-least-conn",
    "nginx-buffering",
    "nginx-next-upstream",
    "nginx-read-timeout",
    "nginx-keepalive-unused",
    "nginx-max-fails",
    "nginx-member-silent",
    "nginx-worker-unlisted",
    "nginx-member-twice",
    "nginx-open",
    "llama-server-open",
    "llama-server-no-metrics",
    "llama-server-context",
    "llama-server-queue",
    "llama-server-more-slots",
    "llama-server-models-differ",
    "llama-server-contexts-differ",
)

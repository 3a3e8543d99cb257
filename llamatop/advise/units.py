"""Units that would not come back, or do not run what their files say."""

from __future__ import annotations

from collections.abc import Iterator

from llamatop.advise import tunnels
from llamatop.advise.finding import Finding, Mend, Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import UnitState

# As many restarts, the last one so recent, are no accident.
MOST_RESTARTS = 3
RECENT_SECONDS = 1800.0
# A node's clock may be a little ahead of this one.
_AHEAD_SECONDS = 60.0
_STARTED = ("active", "activating", "reloading")


def no_restart(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit that systemd leaves dead when its process ends."""
    for name, unit in _units(snapshot):
        if unit.restart_policy == "no" and unit.active_state in _STARTED:
            yield Finding(
                "unit-no-restart",
                "warning",
                name,
                "Restart=no",
                "it stays dead after its first crash, until somebody sees it",
                _drop_in(unit, "[Service] Restart=on-failure RestartSec=5"),
            )


def restarts(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit that dies and comes back again and again.

    Where nginx sends requests to it while it is dead, that is the finding.
    """
    now = snapshot.taken_at.timestamp()
    served = {worker.name for worker in snapshot.workers if worker.membership in ("in", "mixed")}
    served.update(one.place for one in tunnels.down(snapshot))
    for name, unit in _units(snapshot):
        count, since = unit.restarts, unit.since
        if count is None or count < MOST_RESTARTS:
            continue
        if unit.sub_state == "auto-restart" and name in served:
            continue
        if unit.sub_state == "auto-restart":
            up = "SubState=auto-restart"
        elif (
            unit.active_state == "active"
            and since is not None
            and -_AHEAD_SECONDS < now - since < RECENT_SECONDS
        ):
            up = f"up for {max(0, round(now - since))} s"
        else:
            continue
        yield Finding(
            "unit-restarts",
            "error" if unit.sub_state == "auto-restart" else "warning",
            name,
            f"NRestarts={count}, {up}"
            + (f", Result={unit.result}" if unit.result not in (None, "success") else ""),
            "each restart cuts its requests and loads the model anew",
            f"read why it ends: llamatop logs {name}",
        )


def not_enabled(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit that runs, but would not after a reboot."""
    for name, unit in _units(snapshot):
        if unit.active_state == "active" and unit.unit_file_state in (
            "disabled",
            "enabled-runtime",
            "linked",
            "linked-runtime",
        ):
            yield Finding(
                "unit-not-enabled",
                "warning",
                name,
                f"it runs with UnitFileState={unit.unit_file_state}",
                "after a reboot it does not come back",
                f"llamatop enable {name}",
                Mend("enable", (name,)),
            )


def changed(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A unit whose file is newer than what systemd knows of it."""
    for name, unit in _units(snapshot):
        if unit.need_daemon_reload and unit.load_state == "loaded":
            yield Finding(
                "unit-changed",
                "warning",
                name,
                "NeedDaemonReload=yes" + (f" ({unit.fragment_path})" if unit.fragment_path else ""),
                "its file was changed, and systemd goes on with the old one",
                f"llamatop restart {name} (with systemctl daemon-reload, drained first)",
                Mend("restart", (name,)),
            )


def outdated(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A process that was started with other options than its unit has now."""
    for worker in snapshot.workers:
        differs = worker.sample.launch.outdated
        if differs and not worker.unit.need_daemon_reload:
            yield Finding(
                "process-outdated",
                "warning",
                worker.name,
                f"process {worker.unit.main_pid} is older than its unit: {', '.join(differs)}",
                "what was changed in the unit takes effect with its next start alone",
                f"llamatop restart {worker.name} (drained first)",
                Mend("restart", (worker.name,)),
            )


def before_persistenced(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A worker on cards that does not wait for the daemon that keeps them ready."""
    for worker in snapshot.workers:
        if worker.unit.after_persistenced is False and worker.gpus:
            yield Finding(
                "unit-before-persistenced",
                "info",
                worker.name,
                "no After=nvidia-persistenced.service",
                "at boot it may meet cards that are not ready, and start slowly or on the CPU",
                _drop_in(worker.unit, "[Unit] After=nvidia-persistenced.service"),
            )


def as_root(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A server of requests with every right on its machine."""
    for worker in snapshot.workers:
        if worker.unit.user in ("root", "0") and worker.unit.active_state in _STARTED:
            yield Finding(
                "unit-runs-as-root",
                "warning",
                worker.name,
                f"User={worker.unit.user}",
                "whoever finds a hole in the server owns the machine",
                _drop_in(worker.unit, "[Service] User=llama")
                + ", a user of the groups video and render that may read the model;"
                " in a container its own --user",
            )


def _units(snapshot: ClusterSnapshot) -> Iterator[tuple[str, UnitState]]:
    """Workers, and tunnels to members, as plans call them: what an upstream lives on."""
    for worker in snapshot.workers:
        yield worker.name, worker.unit
    for one in tunnels.carrying(snapshot):
        yield one.name, one.unit


def _drop_in(unit: UnitState, lines: str) -> str:
    return f"systemctl edit {unit.name}: {lines}; then daemon-reload and restart"


RULES: tuple[Rule, ...] = (
    no_restart,
    restarts,
    not_enabled,
    changed,
    outdated,
    before_persistenced,
    as_root,
)

"""systemctl's commands, and what a unit must look like after each."""

from __future__ import annotations

from llamatop.model.observed import UnitState
from llamatop.model.plan import Command, Verb

_STOPPED = ("inactive", "failed")


def command(verb: Verb, unit: str) -> Command:
    """`systemctl VERB UNIT` that never waits for a password."""
    return Command(("systemctl", "--no-ask-password", verb, "--", unit))


def daemon_reload() -> Command:
    """Have systemd read its unit files again."""
    return Command(("systemctl", "--no-ask-password", "daemon-reload"))


def reset_failed(unit: str) -> Command:
    """Have systemd forget that a unit failed, so that one without a file is gone."""
    return Command(("systemctl", "--no-ask-password", "reset-failed", "--", unit))


def last_line(unit: str) -> Command:
    """The last words in the journal of the unit's own processes, without systemd's about it."""
    journal = ("journalctl", "--no-pager", "-q", "-n", "1", "-o", "cat")
    return Command((*journal, f"_SYSTEMD_UNIT={unit}"))


def ending(unit: str) -> Command:
    """How the unit's main process ended, which everybody may ask."""
    return Command(("systemctl", "show", "-p", "Id,ExecMainCode,ExecMainStatus", "--", unit))


def standing(unit: str) -> Command:
    """Whether the unit runs, which everybody may ask."""
    return Command(("systemctl", "show", "-p", "Id,ActiveState", "--", unit))


def reload_nginx(unit: str | None) -> Command:
    """Have nginx read its files again: through systemd where a unit runs it."""
    if unit is None:
        return Command(("nginx", "-s", "reload"))
    return Command(("systemctl", "--no-ask-password", "reload", "--", unit))


def differs(verb: Verb, before: UnitState, after: UnitState) -> str | None:
    """What is not as `verb` should have left it, None where all is; units as systemd shows them.

    A start or restart needs only to be under way: that it gets healthy is waited for apart.
    """
    state = f"{after.active_state}/{after.sub_state}"
    if verb == "daemon-reload":
        if after.load_state not in (None, "loaded"):
            return f"systemd cannot use its unit file ({after.load_state})"
        return "its unit file is still newer" if after.need_daemon_reload else None
    if verb == "stop":
        return None if after.active_state in _STOPPED else f"it is still {state}"
    if verb in ("start", "restart"):
        if after.active_state == "failed":
            return f"it failed ({after.result or 'no result given'})"
        # Where the connection was cut, a restart may still be at its first half.
        going = ("deactivating",) if verb == "restart" else ()
        if after.active_state not in ("active", "activating", "reloading", *going):
            return f"it is {state}"
        same = before.main_pid and before.main_pid == after.main_pid
        if verb == "restart" and same and before.since == after.since:
            return f"its main process is still {after.main_pid}"
        return None
    wanted = "enabled" if verb == "enable" else "disabled"
    if after.unit_file_state is not None and not after.unit_file_state.startswith(wanted):
        return f"its unit file is {after.unit_file_state}"
    return None

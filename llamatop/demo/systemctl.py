"""systemctl of a simulated machine: arguments in, systemd's own words out."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from . import unit_disk
from .unit import Unit

if TYPE_CHECKING:
    from .control import Output
    from .machine import Machine

VALUE_OPTIONS = frozenset(
    {
        *("-p", "--property", "-P", "-t", "--type", "--state", "-u", "--unit", "--since"),
        *("-n", "--lines", "-o", "--output", "-s", "--signal"),
    }
)
JOBS = ("start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "kill")


def options(argv: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options with their values (each a list, as they may repeat), and the words."""
    found: dict[str, list[str]] = {}
    words: list[str] = []
    waiting = iter(argv)
    for word in waiting:
        if word == "--":
            words += waiting
        elif word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            found.setdefault(name, []).append(value)
        elif word in VALUE_OPTIONS:
            found.setdefault(word, []).append(next(waiting, ""))
        elif word[:2] in VALUE_OPTIONS and not word.startswith("--") and len(word) > 2:
            found.setdefault(word[:2], []).append(word[2:])
        elif word.startswith("-") and word != "-":
            found.setdefault(word, []).append("")
        else:
            words.append(word)
    return found, words


def _stamp(seconds: float) -> str:
    if not seconds:
        return ""
    return time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def properties(machine: Machine, unit: Unit) -> dict[str, str]:
    """What `systemctl show` knows of a unit, in its order."""
    up = machine.table.booted

    def moment(name: str, seconds: float) -> dict[str, str]:
        monotonic = int((seconds - up) * 1e6) if seconds else 0
        return {name: _stamp(seconds), f"{name}Monotonic": str(monotonic)}

    task = machine.table.tasks.get(unit.main_pid)
    memory = str(task.resident_bytes) if task else "[not set]"
    command = " ".join(unit.argv)
    begun = f"[{_stamp(unit.started)}]" if unit.started else "[n/a]"
    shown = {
        "Type": unit.type,
        "Restart": "no" if unit.kind == "nginx" else "always",
        "RestartUSec": "2s",
        "NRestarts": str(unit.restarts),
        "MainPID": str(unit.main_pid),
        "ControlPID": "0",
        "Result": unit.result,
        "ExecMainPID": str(unit.main_pid),
        "ExecMainCode": "0" if unit.runs or not unit.exit_status else "1",
        "ExecMainStatus": str(unit.exit_status),
        "ExecStart": (
            f"{{ path={unit.argv[0]} ; argv[]={command} ; ignore_errors=no ; start_time={begun} ; "
            f"stop_time=[n/a] ; pid={unit.main_pid} ; code=(null) ; status=0/0 }}"
        ),
        "ControlGroup": f"/system.slice/{unit.name}" if unit.runs else "",
        "MemoryCurrent": memory,
        "MemoryPeak": memory,
        "TasksCurrent": str(len([t for t in machine.table.tasks.values() if t.unit == unit.name])),
        "Environment": " ".join(unit.environment),
        "EnvironmentFiles": "",
        "User": "root" if unit.kind == "nginx" else "llama",
        "KillMode": "mixed",
        "Id": unit.name,
        "Names": unit.name,
        "Description": unit.description,
        "LoadState": "loaded",
        "ActiveState": unit.state,
        "FreezerState": "running",
        "SubState": unit.sub_state,
        "FragmentPath": unit.shown,
        "SourcePath": "",
        "DropInPaths": "",
        "UnitFileState": "enabled" if unit.enabled else "disabled",
        "UnitFilePreset": "enabled",
        "CanStart": "yes",
        "CanStop": "yes",
        "CanReload": "yes" if unit.kind == "nginx" else "no",
        "NeedDaemonReload": "no",
        "InvocationID": unit.invocation if unit.state != "inactive" else "",
    }
    shown |= moment("StateChangeTimestamp", unit.changed)
    shown |= moment("ActiveEnterTimestamp", unit.active_since)
    shown |= moment("ActiveExitTimestamp", unit.inactive_since)
    shown |= moment("InactiveEnterTimestamp", unit.inactive_since)
    shown |= moment("InactiveExitTimestamp", unit.started)
    return shown | moment("ExecMainStartTimestamp", unit.started)


def _missing(name: str) -> dict[str, str]:
    full = name if "." in name else f"{name}.service"
    return {
        "Type": "",
        "Restart": "no",
        "NRestarts": "0",
        "MainPID": "0",
        "Result": "success",
        "MemoryCurrent": "[not set]",
        "Id": full,
        "Names": full,
        "Description": full,
        "LoadState": "not-found",
        "ActiveState": "inactive",
        "SubState": "dead",
        "UnitFileState": "",
        "NeedDaemonReload": "no",
    }


def _show(machine: Machine, found: dict[str, list[str]], words: list[str]) -> str:
    bare = found.get("-P", [])
    lists = found.get("-p", []) + found.get("--property", []) + bare
    wanted = {name for entry in lists for name in entry.split(",") if name}
    blocks = []
    for word in words:
        units = machine.find(word)
        globs = any(mark in word for mark in "*?[")
        shown = [properties(machine, unit) for unit in units]
        if not shown and not globs:
            shown = [_missing(word)]
        for block in shown:
            kept = {n: v for n, v in block.items() if not wanted or n in wanted}
            if bare or "--value" in found:
                blocks.append("".join(f"{value}\n" for value in kept.values()))
            else:
                blocks.append("".join(f"{name}={value}\n" for name, value in kept.items()))
    if not words:
        manager = {"Version": "252.39-1~deb12u1", "NFailedUnits": "0", "SystemState": "running"}
        return "".join(
            f"{name}={value}\n" for name, value in manager.items() if not wanted or name in wanted
        )
    return "\n".join(blocks)


def _selected(machine: Machine, words: list[str]) -> list[Unit]:
    if not words:
        return list(machine.units.values())
    return [unit for word in words for unit in machine.find(word)]


def _table(rows: list[list[str]], heads: list[str], legend: bool) -> str:
    if legend:
        rows = [heads, *rows]
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(len(heads))]
    return "".join(
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in rows
    )


def _list_units(machine: Machine, found: dict[str, list[str]], words: list[str]) -> str:
    units = [
        unit
        for unit in _selected(machine, words)
        if "--all" in found or "-a" in found or unit.state not in ("inactive",)
    ]
    if "json" in found.get("--output", []) + found.get("-o", []):
        return json.dumps(
            [
                {
                    "unit": unit.name,
                    "load": "loaded",
                    "active": unit.state,
                    "sub": unit.sub_state,
                    "description": unit.description,
                }
                for unit in units
            ],
            separators=(",", ":"),
        )
    rows = [[unit.name, "loaded", unit.state, unit.sub_state, unit.description] for unit in units]
    legend = "--no-legend" not in found and "no" not in found.get("--legend", [])
    return _table(rows, ["UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"], legend)


def _list_unit_files(machine: Machine, found: dict[str, list[str]], words: list[str]) -> str:
    units = _selected(machine, words)
    state = {unit.name: "enabled" if unit.enabled else "disabled" for unit in units}
    if "json" in found.get("--output", []) + found.get("-o", []):
        return json.dumps(
            [{"unit_file": name, "state": how, "preset": "enabled"} for name, how in state.items()],
            separators=(",", ":"),
        )
    rows = [[name, how, "enabled"] for name, how in state.items()]
    legend = "--no-legend" not in found and "no" not in found.get("--legend", [])
    return _table(rows, ["UNIT FILE", "STATE", "PRESET"], legend)


def _status(machine: Machine, unit: Unit) -> str:
    journal = [entry for entry in machine.journal.entries if entry.unit == unit.name][-10:]
    how = "enabled" if unit.enabled else "disabled"
    return (
        f"● {unit.name} - {unit.description}\n"
        f"     Loaded: loaded ({unit.shown}; {how}; preset: enabled)\n"
        f"     Active: {unit.state} ({unit.sub_state}) since {_stamp(unit.changed)}\n"
        f"   Main PID: {unit.main_pid} ({unit.argv[0].rpartition('/')[2]})\n\n"
        + "".join(machine.journal.format(entry, "short") + "\n" for entry in journal)
    )


async def _job(verb: str, unit: Unit, output: Output) -> int:
    done = True
    if verb == "start":
        done = await unit.start()
    elif verb == "stop":
        await unit.stop()
    elif verb == "kill":
        if unit.runs:
            unit.process.kill()
            unit.crashed(9, "signal")
    elif verb in ("reload", "reload-or-restart"):
        if unit.kind != "nginx" and verb == "reload":
            output.error(
                f"Failed to reload {unit.name}: Job type reload is not applicable for unit "
                f"{unit.name}.\n"
            )
            return 1
        done = await (unit.reload() if unit.kind == "nginx" else unit.restart())
    elif verb == "restart" or unit.state == "active":
        done = await unit.restart()
    if done:
        return 0
    output.error(
        f"Job for {unit.name} failed because the control process exited with error code.\n"
        f'See "systemctl status {unit.name}" and "journalctl -xeu {unit.name}" for details.\n'
    )
    return 1


async def systemctl(machine: Machine, argv: list[str], output: Output) -> int:
    """Run one systemctl; gives its exit status."""
    found, words = options(argv)
    if "--version" in found:
        output.write("systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT +SELINUX\n")
        return 0
    unit_disk.look(machine)
    verb, names = (words[0], words[1:]) if words else ("list-units", [])
    if verb == "show":
        output.write(_show(machine, found, names))
    elif verb == "list-units":
        output.write(_list_units(machine, found, names))
    elif verb == "list-unit-files":
        output.write(_list_unit_files(machine, found, names))
    elif verb == "daemon-reload":
        pass  # They were just looked at.
    elif verb == "is-system-running":
        output.write("running\n")
    else:
        return await _on_units(machine, verb, names, found, output)
    return 0


async def _on_units(
    machine: Machine, verb: str, names: list[str], found: dict[str, list[str]], output: Output
) -> int:
    status = 0
    quiet = "-q" in found or "--quiet" in found
    units: list[Unit] = []
    for name in names:
        matches = machine.find(name)
        if not matches:
            full = name if "." in name else f"{name}.service"
            if verb in ("is-active", "is-failed"):
                output.write("" if quiet else "inactive\n")
                return 3
            if verb in ("start", "restart"):
                output.error(f"Failed to {verb} {full}: Unit {full} not found.\n")
                status = 5
            elif verb in JOBS:
                output.error(f"Failed to {verb} {full}: Unit {full} not loaded.\n")
                status = 5
            else:
                output.error(f"Unit {full} could not be found.\n")
                status = 4 if verb == "status" else 1
        units += matches
    if verb in JOBS:
        results = await asyncio.gather(*(_job(verb, unit, output) for unit in units))
        return max([status, *results])
    for unit in units:
        if verb == "is-active":
            output.write("" if quiet else unit.state + "\n")
            status = status or (0 if unit.state == "active" else 3)
        elif verb == "is-failed":
            output.write("" if quiet else unit.state + "\n")
            status = 0 if unit.state == "failed" else 1
        elif verb == "is-enabled":
            output.write("" if quiet else ("enabled\n" if unit.enabled else "disabled\n"))
            status = status or int(not unit.enabled)
        elif verb in ("enable", "disable"):
            unit.enabled = verb == "enable"
            if "--now" in found:
                await _job("start" if unit.enabled else "stop", unit, output)
        elif verb == "reset-failed":
            unit.restarts = 0
            if unit.state == "failed":
                unit.state, unit.sub_state, unit.result = "inactive", "dead", "success"
        elif verb == "cat":
            output.write(f"# {unit.shown}\n{unit.file.read_text()}\n")
        elif verb == "status":
            output.write(_status(machine, unit))
            status = status or (0 if unit.state == "active" else 3)
        else:
            output.error(f"Unknown command verb {verb}.\n")
            return 1
    return status

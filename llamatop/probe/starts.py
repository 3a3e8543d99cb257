"""How each worker unit was started: its running process where there is one, else its unit."""

from __future__ import annotations

import os

from . import launch, outdated, procfs, unit_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from .processes import Process, Processes

    Shown = Dict[str, str]


class Start:
    """A worker's start: `launch` are Launch fields, `secret` what never leaves the node."""

    __slots__ = ("engine", "fault", "launch", "pid", "pids", "secret", "start")

    def __init__(self) -> None:
        self.engine: str | None = None
        self.launch: Dict[str, Any] = {}
        self.secret: Dict[str, Any] = {}
        self.pid: int | None = None
        self.start: int | None = None
        self.pids: List[int] = []
        self.fault: str | None = None


def of(unit: str, shown: Shown, processes: Processes) -> Start:
    """Read the start of `unit` now: command line and environment of its engine's process."""
    start = Start()
    main = shown.get("MainPID", "")
    pid = int(main) if main.isdigit() else 0
    environment, unreadable = _unit_environment(shown)
    command = _unit_command(unit, shown)
    whole = bool(command)
    if not whole:
        command = unit_text.shown_command(shown.get("ExecStart", ""))
    command = unit_text.expanded(command, environment)
    found = launch.find(command)
    source = "unit"
    closed = ""
    differs: List[str] = []
    if pid:
        start.pids = processes.family(pid)
        running = _engine(start.pids, processes)
        if running is not None and running.engine is not None:
            start.pid, start.start = running.pid, running.start
            own = procfs.environment(running.pid)
            if unreadable is None and found is not None and whole:
                differs = outdated.options(command, running.engine)
                if own is not None:
                    differs += outdated.variables({**environment, **found.environment}, own)
            if own is not None:
                environment, unreadable = own, None
            else:
                # what a wrapper set is in the process's environment alone
                environment.update({} if found is None else found.environment)
                if found is None or launch.through_shell(command):
                    closed = "%s/%d/environ" % (procfs.ROOT, running.pid)
                    unreadable = unreadable or closed
            found, source = running.engine, "process"
    if found is None:
        return start
    told = launch.describe(found, environment)
    start.engine = found.engine
    start.launch = {name: value for name, value in told.items() if not name.startswith("_")}
    start.launch["source"] = source
    start.launch["environment_known"] = True if unreadable is None else None
    if differs:
        start.launch["outdated"] = differs
    start.secret = {name[1:]: value for name, value in told.items() if name.startswith("_")}
    if start.engine in ("llama-server", "vllm"):
        keyed = bool(start.secret.get("key") or start.secret.get("key_file"))
        # one may be set where nobody lets us look
        start.launch["api_key"] = keyed if keyed or unreadable is None else None
    # The cards are known from the driver as a rule; a port that is not may lead astray.
    if unreadable is not None and start.launch.get("port") is None:
        nor = "" if unreadable == closed else ", nor the environment of the process"
        start.fault = "%s cannot be read by this user%s; what it sets (GPUs, port) is unknown" % (
            unreadable,
            nor,
        )
    return start


def _engine(pids: List[int], processes: Processes) -> Process | None:
    """The engine's process in a family: the first that is one, the main process before others."""
    for pid in pids:
        process = processes.found.get(pid)
        if process is not None and process.engine is not None:
            base = process.words[0].rpartition("/")[2]
            if base not in ("sh", "bash", "dash", "env", "numactl") or len(pids) == 1:
                return process
    return None


def _unit_command(unit: str, shown: Shown) -> List[str]:
    """ExecStart from the unit's own files, which keep quotes; [] where they cannot be read."""
    paths = [shown.get("FragmentPath", "")]
    paths += unit_text.words(shown.get("DropInPaths", ""))
    texts = []
    for path in paths:
        try:
            if path:
                texts.append(procfs.text(procfs.read(procfs.FILES + path)))
        except OSError:
            return []
    command = unit_text.exec_start(texts, unit)
    if command and os.path.basename(command[0]) in shown.get("ExecStart", ""):
        return command
    return []


def _unit_environment(shown: Shown) -> Any:
    """The environment that the unit sets, and the first of its files that cannot be read."""
    environment = unit_text.assignments(shown.get("Environment", ""))
    unreadable = None
    for path in unit_text.environment_files(shown.get("EnvironmentFiles", "")):
        try:
            text = procfs.text(procfs.read(procfs.FILES + path))
            environment.update(unit_text.environment_file(text))
        except FileNotFoundError:
            continue
        except OSError:
            unreadable = unreadable or path
    return unit_text.without(environment, shown.get("UnsetEnvironment", "")), unreadable


def key_of(secret: Dict[str, Any]) -> str | None:
    """The API key that the worker itself was given; the first of several."""
    key = secret.get("key")
    if not key and secret.get("key_file"):
        try:
            lines = procfs.text(procfs.read(str(secret["key_file"]))).split("\n")
        except OSError:
            return None
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        key = keys[0] if keys else None
    return str(key).split(",")[0].strip() if key else None

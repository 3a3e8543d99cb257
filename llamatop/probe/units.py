"""The units that matter, in systemd's own words, asking systemctl only when something moved.

Watched every tick, as it costs nothing: the invocation links that systemd keeps for running units
in /run/systemd/units, and the main processes. `systemctl show` runs at once when one of them
changed, every tick while a unit is on its way between states, and now and then otherwise.
"""

from __future__ import annotations

import fnmatch
import os
import time

from . import keepalive, launch, procfs, unit_text
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Dict, List, Tuple

    from .child import Ended
    from .reactor import Reactor

PROPERTIES = (
    "Id,Description,LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,MainPID,"
    "MemoryCurrent,FragmentPath,DropInPaths,NeedDaemonReload,ExecStart,Environment,"
    "EnvironmentFiles,UnsetEnvironment,Restart,User,DynamicUser,After,InvocationID,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,"
    "InactiveEnterTimestampMonotonic,InactiveExitTimestampMonotonic"
)
PERSISTENCED = "nvidia-persistenced.service"
_SHOW = ("systemctl", "show", "--no-pager", "-p", PROPERTIES, "--")
_LIST_UNITS = "systemctl list-units --type=service --all --plain --full --no-legend --no-pager"
_LIST_FILES = "systemctl list-unit-files --type=service --full --no-legend --no-pager"
# Where people put units: a new one is found at once, not at the next list.
_OWN_UNITS = "/etc/systemd/system"
_LINKS = "/run/systemd/units/invocation:"
_DEADLINE_SECONDS = 5.0
# Before the first answer nothing is known: a machine out of breath gets longer.
_FIRST_SECONDS = 30.0
_SHOW_EVERY = 10.0
_SHOW_EVERY_BLIND = 2.0
_LIST_EVERY = 30.0
_MOST_UNREAD = 20
_MOST_NAMES = 500
_PASSING = ("activating", "deactivating", "reloading", "maintenance")
_SINCE = {
    "active": "ActiveEnterTimestampMonotonic",
    "reloading": "ActiveEnterTimestampMonotonic",
    "deactivating": "ActiveExitTimestampMonotonic",
    "activating": "InactiveExitTimestampMonotonic",
    "inactive": "InactiveEnterTimestampMonotonic",
    "failed": "InactiveEnterTimestampMonotonic",
}


class Units:
    """Finds units and keeps their properties; `shown` maps a name to what systemctl last said."""

    def __init__(self, loop: Reactor, changed: Callable[[], None]) -> None:
        self.shown: Dict[str, Dict[str, str]] = {}
        self.kinds: Dict[str, str] = {}
        self.fault: str | None = None
        self.answered_at: float | None = None
        # When what was last answered had been asked: 0 before the first answer.
        self.asked_at = 0.0
        self._began = 0.0
        self._loop = loop
        self._changed = changed
        self._globs: List[str] = []
        self._named: List[str] = []
        self._all: Dict[str, bool] = {}
        self._running: Child | None = None
        self._lists = 0
        self._list_at = 0.0
        self._show_at = 0.0
        self._again = False
        self._late = False
        self._marks: Dict[str, Any] = {}
        self._written: int | None = None
        # What has a file, and of it what systemd does not know yet: asked for with the others.
        self._files: Dict[str, bool] = {}
        self._unread: Dict[str, bool] = {}
        self._kept: Dict[str, Tuple[Any, ...]] = {}
        self._ssh_files = keepalive.Files()
        self._blind = procfs.ROOT != "/proc" or not os.path.isdir("/run/systemd/units")
        self._boot = time.time() - time.monotonic()

    def configure(self, globs: Sequence[str], named: Sequence[str]) -> None:
        """Which units are workers: shell globs ([]: those that run a known engine), and by name."""
        self._globs = [glob for name in globs for glob in (name, name + ".service")]
        self._named = [_full(name) for name in named]
        self._list_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether nothing is being asked."""
        return self._running is None and not self._lists

    def _answered(self) -> None:
        """What is known is of the moment it was asked: who asked meanwhile wants it newer."""
        self.asked_at = self._began
        self._changed()
        if self._late:
            self._late = False
            # Who asks again and again keeps no list from its turn.
            if time.monotonic() >= self._list_at:
                self._list()
            else:
                self._show(sorted(self.kinds))

    def start(self, now: float, fresh: bool) -> None:
        """Begin what is due at this tick; `fresh` asks systemctl in any case."""
        moved = self._moved()
        written = _changed_at(os.environ.get("LLAMATOP_UNITS_DIRECTORY") or _OWN_UNITS)
        if written != self._written:
            self._written, self._list_at = written, 0.0
        if self._running is not None or self._lists:
            self._again = self._again or moved
            self._late = self._late or fresh
            return
        if now >= self._list_at:
            self._list()
        elif fresh or moved or self._again or now >= self._show_at or self._passing():
            self._again = False
            self._show(sorted(self.kinds))

    def refresh(self) -> None:
        """Something else saw a change, an endpoint gone silent: ask at the next tick."""
        self._again = True

    def _passing(self) -> bool:
        states = (shown.get("ActiveState") for shown in self.shown.values())
        return any(state in _PASSING for state in states)

    def _moved(self) -> bool:
        marks: Dict[str, Any] = {}
        for name in self.kinds:
            link = None
            if not self._blind:
                try:
                    link = os.readlink(_LINKS + name)
                except OSError:
                    pass
            pid = _number(self.shown.get(name, {}).get("MainPID"))
            stat = procfs.stat(pid) if pid else None
            marks[name] = (link, stat and stat[1])
        moved = marks != self._marks
        self._marks = marks
        return moved

    def _list(self) -> None:
        self._began = time.monotonic()
        self._list_at = self._began + _LIST_EVERY
        self._lists = 2
        listed: List[str] = []
        limit = self._deadline()
        Child(self._loop, _LIST_UNITS.split(), limit, lambda e: self._listed(e, listed))
        self._files = {}
        Child(self._loop, _LIST_FILES.split(), limit, lambda e: self._listed(e, listed, True))

    def _deadline(self) -> float:
        return _FIRST_SECONDS if self.answered_at is None else _DEADLINE_SECONDS

    def _listed(self, ended: Ended, listed: List[str], files: bool = False) -> None:
        self._lists -= 1
        if ended.error is not None:
            self._failed(ended)
        for line in procfs.text(ended.output).split("\n"):
            name = line.split(None, 1)[0] if line.strip() else ""
            if name.endswith(".service") and not name.endswith("@.service"):
                listed.append(name)
                if files:
                    self._files[name] = True
        if self._lists:
            return
        if not listed and ended.error is not None:
            self._answered()
            return
        names = dict.fromkeys(listed)
        names.update(dict.fromkeys(self._named))
        fresh = [name for name in names if name not in self._all]
        self._unread = {name: True for name in self._unread if name in names}
        for name in [name for name in self._all if name not in names]:
            del self._all[name]
            self._forget(name)
        self._show((fresh + sorted(self.kinds))[:_MOST_NAMES])

    def _show(self, names: List[str]) -> None:
        self._began = time.monotonic()
        self._show_at = self._began + (_SHOW_EVERY_BLIND if self._blind else _SHOW_EVERY)
        asked = list(dict.fromkeys([*names, *list(self._unread)[:_MOST_UNREAD]]))
        if not asked:
            self.answered_at = self._began
            self._answered()
            return
        self._running = Child(
            self._loop, [*_SHOW, *asked], self._deadline(), lambda ended: self._shown(ended, asked)
        )

    def _shown(self, ended: Ended, asked: List[str]) -> None:
        self._running = None
        found = unit_text.blocks(procfs.text(ended.output))
        if ended.error is not None and not found:
            self._failed(ended)
            self._answered()
            return
        self.fault = None
        self.answered_at = time.monotonic()
        for name in asked:
            self._all[name] = True
            properties = found.get(name)
            self._unread.pop(name, None)
            if properties and properties.get("LoadState") == "not-found":
                # A file may come, or has just come and systemd has not read it yet; what runs on
                # without one may be a worker by its processes.
                runs = properties.get("ActiveState") not in ("inactive", "failed")
                if not runs:
                    del self._all[name]
                if runs or name in self._files:
                    self._unread[name] = True
            kind = None if properties is None else self._kind(name, properties)
            if properties is None or kind is None:
                self._forget(name)
            else:
                self.shown[name] = properties
                self.kinds[name] = kind
        self._moved()
        self._answered()

    def _failed(self, ended: Ended) -> None:
        self.fault = (ended.error or "") + (
            "; units are unknown where systemd does not run"
            if ended.missing
            else "; look at `systemctl is-system-running` on the node"
        )
        self._show_at = time.monotonic() + _SHOW_EVERY
        self._list_at = max(self._list_at, self._show_at)

    def _forget(self, name: str) -> None:
        self.shown.pop(name, None)
        self.kinds.pop(name, None)
        self._kept.pop(name, None)

    def adopt(self, name: str) -> None:
        """A unit whose processes include an engine that its ExecStart does not show is a worker."""
        if name in self._all and name not in self.kinds and self._wanted(name):
            # a name that systemctl does not list belongs to a container's own systemd
            self._named.append(name)
            self._all.pop(name)
            self._list_at = 0.0

    def _wanted(self, name: str) -> bool:
        return not self._globs or any(fnmatch.fnmatchcase(name, glob) for glob in self._globs)

    def _kind(self, name: str, properties: Dict[str, str]) -> str | None:
        if name in self._named:
            return "worker"
        words = unit_text.shown_command(properties.get("ExecStart", ""))
        bases = [word.rpartition("/")[2] for word in words]
        if self._globs and self._wanted(name):
            return "worker"
        if not self._globs and launch.find(words) is not None:
            return "worker"
        if "nginx" in bases[:1]:
            return "nginx"
        if ("autossh" in bases or "ssh" in bases) and any(
            word.startswith("-") and not word.startswith("--") and ("L" in word or "R" in word)
            for word in words
        ):
            return "tunnel"
        return None

    def sample(self) -> Dict[str, Any]:
        """UnitState fields by name."""
        if abs(time.time() - time.monotonic() - self._boot) > 2:
            self._boot = time.time() - time.monotonic()
        return {name: self._state(name, self.shown[name]) for name in self.kinds}

    def _state(self, name: str, shown: Dict[str, str]) -> Dict[str, Any]:
        moment = _number(shown.get(_SINCE.get(shown.get("ActiveState", ""), "")))
        memory = _number(shown.get("MemoryCurrent"))
        reload = shown.get("NeedDaemonReload")
        found = {
            "name": name,
            "kind": self.kinds[name],
            "description": shown.get("Description") or None,
            "load_state": shown.get("LoadState") or None,
            "active_state": shown.get("ActiveState") or None,
            "sub_state": shown.get("SubState") or None,
            "result": shown.get("Result") or None,
            "unit_file_state": shown.get("UnitFileState") or None,
            "restarts": _number(shown.get("NRestarts")),
            "since": round(self._boot + moment / 1e6) if moment else None,
            "main_pid": _number(shown.get("MainPID")) or None,
            "memory_bytes": memory if memory is not None and memory < 2**63 else None,
            "fragment_path": shown.get("FragmentPath") or None,
            "need_daemon_reload": None if not reload else reload == "yes",
        }
        if shown.get("LoadState") == "loaded":
            lasting, asked = self._lasting(name, shown)
            found.update(lasting)
            if asked is not None:
                found["keepalive"] = self._ssh_files.keepalive(asked)
        return found

    def _lasting(
        self, name: str, shown: Dict[str, str]
    ) -> Tuple[Dict[str, Any], Tuple[str | None, ...] | None]:
        """What the unit's files say, worked out once for an answer of systemctl.

        With it whose ssh's files are to be asked of a keep-alive, if any.
        """
        known = self._kept.get(name)
        if known is not None and known[0] is shown:
            return known[1], known[2]
        asked = None
        user = shown.get("User") or (None if shown.get("DynamicUser") == "yes" else "root")
        found: Dict[str, Any] = {"restart_policy": shown.get("Restart") or None}
        found["user"] = user if "User" in shown else None
        if PERSISTENCED in self._all and "After" in shown:
            found["after_persistenced"] = PERSISTENCED in shown["After"].split()
        if self.kinds.get(name) == "tunnel":
            words = unit_text.shown_command(shown.get("ExecStart", ""))
            environment = unit_text.assignments(shown.get("Environment", ""))
            found.update(keepalive.of_unit(words, environment))
            command = keepalive.ssh_of(words)
            if command is not None and found["keepalive"] is None:
                asked = (user, *command)
        self._kept[name] = (shown, found, asked)
        return found, asked


def _changed_at(path: str) -> int | None:
    """When a name in the directory last came or went."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _full(name: str) -> str:
    return name if name.endswith(".service") else name + ".service"

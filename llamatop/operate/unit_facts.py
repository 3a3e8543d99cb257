"""What has to be known of a node before units are made there: texts, names, ports in use."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from msgspec import Struct

from llamatop.collect import addresses
from llamatop.errors import NodeError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Command
from llamatop.probe import unit_text
from llamatop.transport.base import Machine

from . import unit_files
from .live import ask
from .unit_copy import Source

UNITS = "/etc/systemd/system"
_PLACES = (
    UNITS, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system",
)  # fmt: skip
_PROPERTIES = "FragmentPath,DropInPaths,EnvironmentFiles,NeedDaemonReload,Type,UnitFileState"
_LISTEN = "0A"


class UnitFacts(Struct, frozen=True):
    """One node's: unit names that exist on disk, ports that somebody listens on or a unit names."""

    names: frozenset[str]
    ports: frozenset[int]


async def facts(machine: Machine, snapshot: ClusterSnapshot) -> UnitFacts:
    """Same as `ls` of systemd's directories, /proc/net/tcp, and every number in the unit files."""
    listed = await ask(machine, Command(("ls", "-1A", "--", *_PLACES)))
    tables = await ask(machine, Command(("cat", "/proc/net/tcp", "/proc/net/tcp6")))
    numbers = await ask(
        machine,
        Command(("grep", "-rhoE", "--include=*.service", "--include=*.conf", "[0-9]{4,5}", UNITS)),
    )
    names = {name.removesuffix(".d") for name in _text(listed.stdout).splitlines()}
    ports = {int(word) for word in _text(numbers.stdout).split() if word.isdecimal()}
    for line in _text(tables.stdout).splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTEN:
            ports.add(int(fields[1].rpartition(":")[2], 16))
    node = snapshot.node(machine.name)
    names |= set(node.snapshot.units)
    ports |= {w.launch.port for w in node.snapshot.workers.values() if w.launch.port is not None}
    if machine.name == snapshot.balancer_node:
        places = [addresses.parse(member.address, 80) for member in snapshot.members]
        ports |= {place.port for place in places if place is not None and place.loopback}
    return UnitFacts(frozenset(names), frozenset(ports))


async def source(machine: Machine, unit: str) -> Source:
    """A unit's own text and its environment files; raises NodeError where it cannot be copied."""
    shown = await ask(
        machine, Command(("systemctl", "show", "-p", f"Id,{_PROPERTIES}", "--", unit))
    )
    told = unit_text.blocks(_text(shown.stdout)).get(unit, {})
    fragment = told.get("FragmentPath", "")
    if not fragment:
        raise NodeError(machine.name, f"systemd knows no file of {unit}", f"systemctl cat {unit}")
    if not fragment.startswith(tuple(f"{place}/" for place in _PLACES)):
        # Where systemd is not the machine's own, the real one's stays as it is.
        raise NodeError(
            machine.name,
            f"{unit} lies in {fragment}, which is no place of systemd's own, so no unit can be made"
            " from it",
        )
    if told.get("NeedDaemonReload") == "yes":
        raise NodeError(
            machine.name,
            f"the file of {unit} changed on disk since systemd read it, so it may not be what runs",
            f"llamatop restart {machine.name}/{unit.removesuffix('.service')} first",
        )
    if told.get("Type") in ("forking", "dbus"):
        raise NodeError(machine.name, f"{unit} is Type={told['Type']}", "write the units by hand")
    files = []
    for path in (fragment, *told.get("DropInPaths", "").split()):
        read = await ask(machine, Command(("cat", "--", path)))
        mode = await ask(machine, Command(("stat", "-L", "-c", "%a", "--", path)))
        if read.status != 0 or _text(mode.stdout).strip()[-1:] not in ("4", "5", "6", "7"):
            # The new files can be read by everybody: what only root may read does not go there.
            raise NodeError(
                machine.name,
                f"not everybody may read {path}, and a unit made from it could be read by all",
                f"move its secrets to an EnvironmentFile= and chmod a+r {path}",
            )
        files.append((path, _text(read.stdout)))
    paths = unit_text.environment_files(told.get("EnvironmentFiles", ""))
    return Source(unit, tuple(files), await _environment(machine, paths))


class Made(Struct, frozen=True):
    """A file that llamatop was to write: is it there, as another text, or still beside."""

    there: bool
    changed: bool
    beside: bool


async def made(machine: Machine, unit: str, digest: str) -> Made:
    """How a file stands whose text has this SHA-256; raises NodeError where that is not known."""
    path = f"{UNITS}/{unit}"
    read, new = [
        await ask(machine, Command(("env", "LC_ALL=C", "cat", "--", one)))
        for one in (path, unit_files.beside(path))
    ]
    for one in (read, new):
        if one.status != 0 and b"No such file" not in one.stderr:
            words = _text(one.stderr).strip() or "no message"
            raise NodeError(machine.name, f"whether {path} is there is not known: {words}")
    changed = read.status == 0 and not unit_files.ours(read.stdout, digest)
    return Made(read.status == 0, changed, new.status == 0)


async def _environment(machine: Machine, paths: Iterable[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for path in paths:
        read = await ask(machine, Command(("env", "LC_ALL=C", "cat", "--", path)))
        if read.status == 0:
            found |= unit_text.environment_file(_text(read.stdout))
        elif b"No such file" not in read.stderr:
            return None
    return found


def free_port(taken: Iterable[int], after: int) -> int:
    """The first port above `after` that nobody has."""
    held = set(taken)
    ports = itertools.chain(range(after + 1, 65536), range(1025, after))
    return next(port for port in ports if port not in held)


def free_name(taken: Iterable[str], wished: Iterable[str]) -> str:
    """The first wished name that no unit has, else one with a number behind it."""
    held = set(taken)
    names = list(wished)
    for name in names:
        if f"{name}.service" not in held:
            return f"{name}.service"
    numbered = (f"{names[-1]}-{number}.service" for number in range(2, 1000))
    return next(name for name in numbered if name not in held)


def numbered(stem: str) -> tuple[str, int] | None:
    """`llama-server-gpu` and 0 of `llama-server-gpu0`; None for a name without a number behind."""
    match = re.fullmatch(r"([A-Za-z0-9_.:-]*[A-Za-z_.:-])(\d{1,3})", stem)
    return (match[1], int(match[2])) if match else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
